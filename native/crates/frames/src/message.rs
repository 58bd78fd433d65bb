//! Messages between launcher and daemon.

pub const TYPE_CALL: u8 = 1;
pub const TYPE_RUN: u8 = 2;
pub const TYPE_RAN: u8 = 3;
pub const TYPE_WAIT: u8 = 4;
pub const TYPE_OUTPUTS: u8 = 5;
pub const TYPE_EXEC: u8 = 6;
pub const TYPE_CONTROL: u8 = 7;
pub const TYPE_REPLY: u8 = 8;
pub const TYPE_REFUSE: u8 = 9;
pub const TYPE_DONE: u8 = 10;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    Call(Call),
    Run(Run),
    Ran(Ran),
    /// What the daemon works on, for a person at a terminal.
    Wait(Option<String>),
    Outputs(Outputs),
    Exec(Exec),
    Control {
        protocol_version: u32,
        json: String,
    },
    Reply {
        json: String,
    },
    Refuse {
        protocol_version: u32,
        reason: String,
    },
    Done {
        fell_back: Option<String>,
    },
    /// A CALL or CONTROL of another version.
    OtherVersion {
        protocol_version: u32,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    pub launcher_version: String,
    pub mount_namespace_dev: u64,
    pub mount_namespace_ino: u64,
    pub argv: Vec<Vec<u8>>,
    pub cwd: Vec<u8>,
    pub environment: Vec<Vec<u8>>,
    pub umask: u32,
    /// Bit 0 stdin, 1 stdout, 2 stderr.
    pub terminal: u8,
    pub columns: Option<u32>,
    pub pid: u32,
    pub host_compiler: Option<Vec<u8>>,
    pub errand: Errand,
}

/// What a call wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Errand {
    Compile = 0,
    /// The words are a command, to be run with the image's files around it.
    Command = 1,
    /// A compile of such a command.
    Inside = 2,
}

/// A kept namespace, by a process in it and the inodes that it must have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamespaceRef {
    pub holder_pid: u32,
    pub user_ino: Option<u64>,
    pub mount_ino: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stream {
    Inherit,
    Discard,
    File(Vec<u8>),
    /// A terminal as wide as that of standard error, whose output goes to the file.
    Terminal(Vec<u8>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    pub id: u32,
    pub program: Vec<u8>,
    pub argv: Vec<Vec<u8>>,
    pub environment: Vec<Vec<u8>>,
    pub cwd: Vec<u8>,
    pub namespace: Option<NamespaceRef>,
    pub stdin_null: bool,
    pub stdout: Stream,
    pub stderr: Stream,
    pub time_limit_ms: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunFailure {
    Namespace = 1,
    Program = 2,
    Cwd = 3,
    Capture = 4,
    TimeLimit = 5,
    Spawn = 6,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Exited(u32),
    Signaled(u32),
    Failed { failure: RunFailure, errno: u32 },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    pub user_us: u64,
    pub system_us: u64,
    pub max_rss_kib: u64,
    pub wall_us: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ran {
    pub id: u32,
    pub outcome: Outcome,
    pub usage: Usage,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    Inline(Vec<u8>),
    File(Vec<u8>),
}

/// Whose habits a destination that exists meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    Assembler = 0,
    Text = 1,
    Clang = 2,
}

impl Manner {
    /// By its number, which is checked already.
    pub(crate) fn of(number: u8) -> Manner {
        match number {
            0 => Manner::Assembler,
            1 => Manner::Text,
            _ => Manner::Clang,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputFile {
    pub destination: Vec<u8>,
    pub content: Content,
    pub executable: bool,
    pub manner: Manner,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outputs {
    pub exit_code: u32,
    pub stdout: Option<Content>,
    pub stderr: Option<Content>,
    pub files: Vec<OutputFile>,
    /// Files that a failing compile removes.
    pub removals: Vec<Vec<u8>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exec {
    pub namespace: Option<NamespaceRef>,
    /// None: the real compiler of the call's name on PATH.
    pub program: Option<Vec<u8>>,
    pub argv: Option<Vec<Vec<u8>>>,
    pub environment: Option<Vec<Vec<u8>>>,
    pub cwd: Option<Vec<u8>>,
    pub warning: Option<String>,
}
