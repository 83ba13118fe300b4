// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! What a check finds.

use serde::Serialize;
use std::fmt;
use std::path::Path;
use vbd_format::Error;

/// Findings of a layer that are kept; the rest is counted.
const MOST: usize = 10_000;

/// Something that was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The layer's path; [`None`] for the stack.
    pub file: Option<String>,
    /// The layer's number, 0 = bottom.
    pub layer: Option<usize>,
    /// Whether it is a defect; otherwise it is a note.
    pub defect: bool,
    /// Name of the rule.
    pub rule: &'static str,
    /// What `offset` counts in.
    pub part: &'static str,
    /// Byte.
    pub offset: u64,
    /// The value there.
    pub found: String,
    /// The rule, as a sentence.
    pub text: &'static str,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.file {
            write!(f, "{file}: ")?;
        }
        let kind = if self.defect { "defect" } else { "note" };
        write!(
            f,
            "{kind}: {} offset {}: {}",
            self.part, self.offset, self.text
        )?;
        if self.rule == Extra::Unreadable.parts().0 {
            write!(f, ": {}", self.found)?;
        } else if !self.found.is_empty() {
            write!(f, " (found {})", self.found)?;
        }
        Ok(())
    }
}

macro_rules! extras {
    ($( $(#[$doc:meta])* $name:ident: $defect:literal, $text:literal; )*) => {
        /// Findings besides the rules of [`vbd_format::Rule`], which are about one structure each.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Extra {
            $( $(#[$doc])* $name, )*
        }

        impl Extra {
            const fn parts(self) -> (&'static str, bool, &'static str) {
                match self { $( Self::$name => (stringify!($name), $defect, $text), )* }
            }
        }
    };
}

extras! {
    /// Defect: the system does not give the bytes.
    Unreadable: true, "cannot be read";
    /// Defect: what header and trailer of a ZFile say is not the same.
    TrailerDiffers: true, "trailer and overwritten header say different things";
    /// Defect: a ZFile has no trailer where one should be; upstream's reader can do without.
    NoTrailer: true, "no trailer at the end of the ZFile";
    /// Defect: pax record and ustar header state different sizes.
    TarSizesDiffer: true, "tar header states another size than the pax record";
    /// Note: the archive does not end as tar wants it.
    TarEnd: false, "tar archive does not end with zeroes and two empty blocks";
    /// Note: header and jump table of a ZFile carry no checksums.
    NoDigest: false, "header and jump table carry no checksums";
    /// Note: blocks carry no checksums.
    NoBlockChecksums: false, "blocks carry no checksums";
    /// Note: bytes of a ZFile between the last block and the jump table.
    UnusedBytes: false, "bytes between the last block and the jump table";
    /// Note: more entries in the jump table than blocks.
    UnusedEntries: false, "jump table has more entries than blocks";
    /// Note: blocks that a damaged jump table hides.
    NotLocated: false, "blocks that the damaged jump table does not locate, which were not verified";
    /// Note: the layer proper lies in damaged blocks.
    NotVerified: false, "could not be verified because blocks are damaged";
    /// Note: records of data past the virtual size.
    PastTheEnd: false, "records end past the virtual size";
    /// Note: stored bytes that are not part of the disk.
    Unreferenced: false, "stored bytes that no record points at";
    /// Note: the layers' sizes are not all the same; the topmost counts.
    SizesDiffer: false, "virtual size differs from the stack's";
    /// Note: a layer names another parent than the layer below.
    ParentDiffers: false, "parent is not the layer below";
}

/// Gathers findings on one layer, or on the stack.
pub(super) struct Findings<'a> {
    file: Option<(usize, String)>,
    list: Vec<Finding>,
    defects: u64,
    notes: u64,
    tell: &'a mut dyn FnMut(&Finding),
}

impl<'a> Findings<'a> {
    pub(super) fn new(layer: Option<(usize, &Path)>, tell: &'a mut dyn FnMut(&Finding)) -> Self {
        Self {
            file: layer.map(|(number, path)| (number, path.display().to_string())),
            list: Vec::new(),
            defects: 0,
            notes: 0,
            tell,
        }
    }

    /// A broken rule.
    pub(super) fn rule(&mut self, error: Error) {
        let found = error.found.to_string();
        let rule = error.rule;
        self.add(
            true,
            rule.name(),
            rule.part(),
            error.offset,
            found,
            rule.text(),
        );
    }

    /// Something else.
    pub(super) fn extra(&mut self, extra: Extra, part: &'static str, offset: u64, found: String) {
        let (name, defect, text) = extra.parts();
        self.add(defect, name, part, offset, found, text);
    }

    fn add(
        &mut self,
        defect: bool,
        rule: &'static str,
        part: &'static str,
        offset: u64,
        found: String,
        text: &'static str,
    ) {
        let finding = Finding {
            file: self.file.as_ref().map(|(_, file)| file.clone()),
            layer: self.file.as_ref().map(|(number, _)| *number),
            defect,
            rule,
            part,
            offset,
            found,
            text,
        };
        (self.tell)(&finding);
        if defect {
            self.defects += 1;
        } else {
            self.notes += 1;
        }
        if self.list.len() < MOST {
            self.list.push(finding);
        }
    }

    /// Defects and notes so far.
    pub(super) fn counts(&self) -> (u64, u64) {
        (self.defects, self.notes)
    }

    pub(super) fn into_list(self) -> Vec<Finding> {
        self.list
    }
}
