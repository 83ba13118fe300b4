// SPDX-License-Identifier: GPL-2.0 OR MIT OR Apache-2.0

//! Which verb takes which files, which files are odd, and what the answers are.

use std::sync::LazyLock;

/// What a file on a command line is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// A layer.
    Layer,
    /// A layer that `check` looks at.
    Checked,
    /// A raw image.
    Image,
    /// A layer or a raw image.
    Disk,
    /// What `convert` takes.
    Source,
    /// A part of a writable layer.
    Writable,
    /// A layer that is attached.
    Attached,
    /// What an attach reads.
    Config,
    /// A layer for which a script is printed.
    Scripted,
    /// A layer on a block device.
    OnDevice,
    /// An attached device.
    Device,
    /// What is written.
    Output,
}

/// A command line, without the verb, in which `{}` stands for the odd file.
pub(crate) struct Line {
    pub(crate) text: &'static str,
    role: Role,
}

const fn line(role: Role, text: &'static str) -> Line {
    Line { text, role }
}

impl Line {
    pub(crate) fn is_output(&self) -> bool {
        self.role == Role::Output
    }

    /// The words with the name of a file, which is no option even if it looks so.
    pub(crate) fn words(&self, verb: &str, name: &str) -> Vec<String> {
        let mut words = vec![verb.to_owned()];
        let mut options = true;
        for word in self.text.split(' ') {
            if options && !word.starts_with("--") {
                options = false;
                words.push("--".to_owned());
            }
            words.push(word.replace("{}", name));
        }
        words
    }
}

/// All verbs; one that takes no file has no line.
pub(crate) const VERBS: &[(&str, &[Line])] = &[
    (
        "attach",
        &[
            line(Role::Attached, "{}"),
            line(Role::Attached, "layer {}"),
            line(Role::Config, "--config={}"),
        ],
    ),
    ("detach", &[line(Role::Device, "{}")]),
    ("list", &[]),
    ("status", &[line(Role::Device, "{}")]),
    (
        "dm-table",
        &[
            line(Role::Scripted, "--losetup {}"),
            line(Role::OnDevice, "{}"),
        ],
    ),
    (
        "create",
        &[
            line(Role::Image, "{} out"),
            line(Role::Layer, "--base={} image out"),
            line(Role::Output, "image {}"),
        ],
    ),
    (
        "info",
        &[line(Role::Layer, "{}"), line(Role::Layer, "layer {}")],
    ),
    ("check", &[line(Role::Checked, "{}")]),
    (
        "compare",
        &[line(Role::Disk, "{} image"), line(Role::Disk, "layer {}")],
    ),
    (
        "export",
        &[line(Role::Layer, "{} out"), line(Role::Output, "layer {}")],
    ),
    (
        "convert",
        &[line(Role::Source, "{} out"), line(Role::Output, "layer {}")],
    ),
    (
        "commit",
        &[
            line(Role::Writable, "{} index out"),
            line(Role::Writable, "data {} out"),
            line(Role::Writable, "--sparse {} out"),
            line(Role::Output, "data index {}"),
        ],
    ),
    (
        "merge",
        &[line(Role::Layer, "{} out"), line(Role::Output, "layer {}")],
    ),
];

/// What is odd about a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Odd {
    Fifo,
    Directory,
    Socket,
    CharacterDevice,
    /// `-`.
    Dash,
    Empty,
    OneByte,
    /// A layer that nobody but the superuser may read.
    Secret,
    /// A layer whose name has a line feed in it.
    Newline,
    /// A layer whose name has what a terminal acts on in it.
    Escape,
    /// A layer with a name of 250 characters.
    Long,
    Comma,
    LeadingDash,
    Missing,
    /// Names that nothing has yet.
    NewNewline,
    NewLong,
    NewComma,
    NewLeadingDash,
    TooLong,
    ReadOnlyDirectory,
    NoDirectory,
}

static LONG: LazyLock<String> = LazyLock::new(|| "l".repeat(250));
static NEW_LONG: LazyLock<String> = LazyLock::new(|| "n".repeat(250));
static TOO_LONG: LazyLock<String> = LazyLock::new(|| "t".repeat(256));

impl Odd {
    pub(crate) const ALL: [Self; 21] = [
        Self::Fifo,
        Self::Directory,
        Self::Socket,
        Self::CharacterDevice,
        Self::Dash,
        Self::Empty,
        Self::OneByte,
        Self::Secret,
        Self::Newline,
        Self::Escape,
        Self::Long,
        Self::Comma,
        Self::LeadingDash,
        Self::Missing,
        Self::NewNewline,
        Self::NewLong,
        Self::NewComma,
        Self::NewLeadingDash,
        Self::TooLong,
        Self::ReadOnlyDirectory,
        Self::NoDirectory,
    ];

    /// Layers that are as good as any, but for their names.
    pub(crate) const LAYERS: [Self; 5] = [
        Self::Newline,
        Self::Escape,
        Self::Long,
        Self::Comma,
        Self::LeadingDash,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Fifo => "fifo",
            Self::Directory => "directory",
            Self::Socket => "socket",
            Self::CharacterDevice => "character",
            Self::Dash => "-",
            Self::Empty => "empty",
            Self::OneByte => "one",
            Self::Secret => "secret",
            Self::Newline => "new\nline",
            Self::Escape => "red\x1b[31m",
            Self::Long => &LONG,
            Self::Comma => "com,ma",
            Self::LeadingDash => "-layer",
            Self::Missing => "missing",
            Self::NewNewline => "out\nput",
            Self::NewLong => &NEW_LONG,
            Self::NewComma => "out,put",
            Self::NewLeadingDash => "-output",
            Self::TooLong => &TOO_LONG,
            Self::ReadOnlyDirectory => "readonly/out",
            Self::NoDirectory => "missing/out",
        }
    }

    /// Whether the superuser would not notice.
    pub(crate) fn needs_nobody(self) -> bool {
        matches!(self, Self::Secret | Self::ReadOnlyDirectory)
    }
}

/// An answer: the status, and words that are in it.
pub(crate) struct Wanted {
    pub(crate) status: i32,
    pub(crate) words: &'static str,
}

/// The answer of `verb` to `odd`; [`None`] if that is nothing odd there.
pub(crate) fn answer(verb: &str, line: &Line, odd: Odd) -> Option<Wanted> {
    let (status, words) = match line.role {
        Role::Output => to_output(verb, odd)?,
        Role::Device => (1, "the driver is not there"),
        role => to_input(role, odd)?,
    };
    Some(Wanted { status, words })
}

fn to_output(verb: &str, odd: Odd) -> Option<(i32, &'static str)> {
    Some(match odd {
        Odd::Fifo | Odd::Socket | Odd::CharacterDevice => (1, "exists and is no regular file"),
        Odd::Directory => (1, "is a directory"),
        Odd::Dash if verb == "export" => (0, ""),
        Odd::Dash => (1, "standard output"),
        Odd::Empty
        | Odd::OneByte
        | Odd::Secret
        | Odd::Newline
        | Odd::Escape
        | Odd::Long
        | Odd::Comma
        | Odd::LeadingDash => (1, "exists; --force replaces it"),
        Odd::NewNewline | Odd::NewLong | Odd::NewComma | Odd::NewLeadingDash => (0, ""),
        Odd::TooLong => (1, "File name too long"),
        Odd::ReadOnlyDirectory => (1, "Permission denied"),
        Odd::NoDirectory => (1, "No such file or directory"),
        Odd::Missing => return None,
    })
}

fn to_input(role: Role, odd: Odd) -> Option<(i32, &'static str)> {
    Some(match (odd, role) {
        (Odd::Fifo, _) => (1, "is a FIFO"),
        (Odd::Directory, Role::Image) => (0, ""),
        (Odd::Directory, _) => (1, "is a directory"),
        (Odd::Socket, _) => (1, "is a socket"),
        (Odd::CharacterDevice, _) => (1, "is a character device"),
        (Odd::Dash, _) => (1, "standard input cannot be read here"),
        (Odd::Secret, _) => (1, "Permission denied"),
        (Odd::Missing, _) => (1, "No such file or directory"),
        (Odd::Empty | Odd::OneByte, Role::OnDevice) => (1, "is no block device"),
        (Odd::TooLong, _) => (1, "File name too long"),
        (Odd::Empty | Odd::OneByte, Role::Layer | Role::Checked) => (1, "too small to be a layer"),
        (Odd::Empty, Role::Image | Role::Source) => (1, "is empty"),
        (Odd::OneByte, Role::Image) => (0, ""),
        (Odd::OneByte, Role::Source) => (0, ""),
        (Odd::Empty | Odd::OneByte, Role::Disk) => (1, "sizes differ"),
        (Odd::Empty | Odd::OneByte, Role::Writable) => (1, "too small for a header"),
        (Odd::Empty | Odd::OneByte, Role::Attached) => (1, "the driver is not there"),
        (Odd::Empty, Role::Config) => (1, "EOF"),
        (Odd::OneByte, Role::Config) => (1, "invalid type"),
        (Odd::Empty | Odd::OneByte, Role::Scripted) => (1, "nothing tells where the layer ends"),
        _ if !Odd::LAYERS.contains(&odd) => return None,
        (_, Role::Layer | Role::Image | Role::Source) => (0, ""),
        (_, Role::Checked) => (0, "no defects"),
        (_, Role::Disk) => (0, "equal"),
        (_, Role::Writable) => (1, "no layer magic at the start"),
        (_, Role::Attached) => (1, "the driver is not there"),
        (_, Role::Config) => (1, "valid UTF-8"),
        (_, Role::Scripted) => (0, "lsmt_target"),
        (_, Role::OnDevice) => (1, "is no block device"),
        (_, Role::Device | Role::Output) => return None,
    })
}
