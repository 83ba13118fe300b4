// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! What can be wrong with an image, and where.

use core::fmt;

/// A broken rule: which one, at which byte, what was found there, and in which layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Error {
    /// The rule that does not hold.
    pub rule: Rule,
    /// Byte offset, in the coordinates of the structure that the rule is about: the file for tar,
    /// the tar payload for ZFile, the decompressed bytes for LSMT.
    pub offset: u64,
    /// The offending value.
    pub found: u64,
    /// Layer in the stack, 0 = bottom, when known.
    pub layer: Option<u8>,
}

impl Error {
    /// An error without a layer yet.
    pub const fn new(rule: Rule, offset: u64, found: u64) -> Self {
        Self {
            rule,
            offset,
            found,
            layer: None,
        }
    }

    /// The same error, said of layer `layer`.
    #[must_use]
    pub const fn in_layer(self, layer: u8) -> Self {
        Self {
            layer: Some(layer),
            ..self
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(layer) = self.layer {
            write!(f, "layer {layer}: ")?;
        }
        write!(
            f,
            "{} offset {}: {} (found {})",
            self.rule.part(),
            self.offset,
            self.rule.text(),
            self.found
        )
    }
}

impl core::error::Error for Error {}

/// The kinds of failure; the kernel and the tool each map a kind to their answer once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Not an overlaybd layer at all.
    NotALayer,
    /// A layer whose parts contradict each other, or that is cut off.
    Corrupt,
    /// A checksum does not match.
    Checksum,
    /// Legal, perhaps, but not something this code can read.
    Unsupported,
    /// Beyond a limit of [`super::limits`].
    TooLarge,
}

macro_rules! rules {
    ($( $(#[$doc:meta])* $name:ident: $part:literal, $class:ident, $text:literal; )*) => {
        /// The rules of the format, one for each check.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[non_exhaustive]
        pub enum Rule {
            $( $(#[$doc])* $name, )*
        }

        impl Rule {
            /// All rules, for documentation and tests.
            pub const ALL: &'static [Rule] = &[$( Rule::$name, )*];

            /// The name, as in this enum.
            pub const fn name(self) -> &'static str {
                match self { $( Rule::$name => stringify!($name), )* }
            }

            /// The structure the rule is about; says what an error's offset counts in.
            pub const fn part(self) -> &'static str {
                match self { $( Rule::$name => $part, )* }
            }

            /// The kind of failure.
            pub const fn class(self) -> Class {
                match self { $( Rule::$name => Class::$class, )* }
            }

            /// The rule, as a sentence for people.
            pub const fn text(self) -> &'static str {
                match self { $( Rule::$name => $text, )* }
            }
        }
    };
}

rules! {
    /// A read outside a window.
    WindowBounds: "file", Corrupt, "range lies outside the file or payload";
    /// Tar payload leaves the file.
    TarPayloadBounds: "tar", Corrupt, "tar payload ends past the end of the file";
    /// Pax record cannot be read.
    TarPaxRecord: "tar", Corrupt, "pax record is malformed";
    /// Tar size field cannot be read.
    TarSizeField: "tar", Corrupt, "tar size field is not an octal number";

    /// ZFile digest of header or trailer.
    ZFileDigest: "zfile", Checksum, "header or trailer digest does not match";
    /// ZFile header without the data-file bit.
    ZFileHeaderFlags: "zfile", Corrupt, "header flags must say data file";
    /// ZFile too small for header and trailer.
    ZFileTooSmall: "zfile", Corrupt, "file is too small for header and trailer";
    /// ZFile trailer magic.
    ZFileTrailerMagic: "zfile", Corrupt, "no trailer magic at the end of the file (truncated?)";
    /// ZFile trailer flags.
    ZFileTrailerFlags: "zfile", Corrupt, "trailer flags must say sealed data file, not header";
    /// ZFile with its numbers in a trailer that may be another one's.
    ZFileTrailerUntied: "zfile", Unsupported, "numbers stand in the trailer, and at a device's end that may be another file's: give the length";
    /// Compression algorithm.
    ZFileAlgorithm: "zfile", Unsupported, "compression algorithm must be 1 (LZ4) or 2 (ZSTD)";
    /// Block size.
    ZFileBlockSize: "zfile", Unsupported, "block size must be a power of two from 512 to 65536";
    /// Original size over the limit.
    ZFileSizeLimit: "zfile", TooLarge, "original file size is beyond the limit";
    /// Block count over the limit.
    ZFileBlockLimit: "zfile", TooLarge, "number of blocks is beyond the limit";
    /// Not enough blocks for the size.
    ZFileBlockCount: "zfile", Corrupt, "jump table has too few blocks for the original file size";
    /// Jump table leaves the file.
    ZFileTableBounds: "zfile", Corrupt, "jump table does not lie between the blocks and the trailer";
    /// Jump table checksum.
    ZFileTableCrc: "zfile", Checksum, "jump table checksum does not match";
    /// Jump table entry out of range.
    ZFileStoredLength: "zfile", Corrupt, "stored length of a block is impossible for its size";
    /// Block data leaves the area before the jump table.
    ZFileBlockBounds: "zfile", Corrupt, "block ends past the start of the jump table";
    /// Caller gave no memory.
    ZFileTableMemory: "zfile", TooLarge, "no memory was given to read the jump table";
    /// Block checksum.
    ZFileBlockCrc: "zfile", Checksum, "block checksum does not match";
    /// Block does not decode.
    ZFileBlockDecode: "zfile", Corrupt, "block does not decompress";
    /// Block decodes to a wrong length.
    ZFileBlockLength: "zfile", Corrupt, "block decompresses to a wrong length";
    /// An LZ4 block whose output is not defined by its input.
    ZFileBlockUndefined: "zfile", Corrupt, "LZ4 block copies from a place before its own output";
    /// A read past the end of the decompressed file.
    ZFileReadBounds: "zfile", Corrupt, "read past the end of the decompressed file";

    /// Too small to be a layer.
    LsmtTooSmall: "lsmt", NotALayer, "too small to be a layer";
    /// Header magic.
    LsmtHeaderMagic: "lsmt", NotALayer, "no layer magic at the start: not an overlaybd layer";
    /// Header flags.
    LsmtHeaderFlags: "lsmt", NotALayer, "header flags must say header of a data file";
    /// Trailer magic.
    LsmtTrailerMagic: "lsmt", Corrupt, "no trailer magic at the end (truncated, or not sealed)";
    /// Trailer flags.
    LsmtTrailerFlags: "lsmt", Corrupt, "trailer flags must say sealed data file, not header";
    /// Trailer of another layer.
    LsmtTrailerUuid: "lsmt", Corrupt, "trailer is another layer's: its uuid is not the header's";
    /// Trailer that may be another layer's.
    LsmtTrailerUntied: "lsmt", Unsupported, "no uuid ties the trailer to the header, and at a device's end it may be another layer's: give the length";
    /// Index record count over the limit.
    LsmtIndexLimit: "lsmt", TooLarge, "number of index records is beyond the limit";
    /// Index leaves the area before the trailer.
    LsmtIndexBounds: "lsmt", Corrupt, "index does not end before the trailer";
    /// Records out of order.
    LsmtOrder: "lsmt", Corrupt, "index records overlap or are not sorted";
    /// Record points outside the data area.
    LsmtRange: "lsmt", Corrupt, "index record points outside the data area";
    /// Virtual size over the limit.
    LsmtSizeLimit: "lsmt", TooLarge, "virtual size is beyond the limit";

    /// Too small to be a file of a writable layer.
    WritableTooSmall: "writable", NotALayer, "too small for a header";
    /// Header magic.
    WritableMagic: "writable", NotALayer, "no layer magic at the start: no part of a writable layer";
    /// Header flags of a data file.
    WritableDataFlags: "writable", NotALayer, "header flags must say header of a data file";
    /// Header flags of an index file.
    WritableIndexFlags: "writable", NotALayer, "header flags must say header of an index file, not sealed";
    /// Place of the records.
    WritableIndexOffset: "writable", Corrupt, "records must begin right after the header";
    /// Record count over the limit.
    WritableRecordLimit: "writable", TooLarge, "number of records is beyond the limit";
    /// Virtual size over the limit.
    WritableSizeLimit: "writable", TooLarge, "virtual size is beyond the limit";
    /// Record points before the data area.
    WritableRange: "writable", Corrupt, "record points into the header of the data file";
    /// A group of the log is damaged, and a later one is not.
    WritableGroup: "writable", Corrupt, "a group of records is damaged that was on disk before another one";

    /// No layer at all.
    StackEmpty: "stack", NotALayer, "a stack needs at least one layer";
    /// Too many layers.
    StackLayers: "stack", TooLarge, "a stack has at most 255 layers";
    /// No layer states a size.
    StackNoSize: "stack", Corrupt, "no layer states a virtual size; give one";
    /// Merged index over the limit.
    StackIndexLimit: "stack", TooLarge, "merged index is beyond the limit";
}
