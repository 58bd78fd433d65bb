//! An agent outside a VM and a worker's side of its stream.
#![allow(dead_code, reason = "each test program uses a part")]
use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use hpcc_agent::proto::agent_service_client::AgentServiceClient;
use hpcc_agent::proto::session_request::Message as Request;
use hpcc_agent::proto::session_response::Message as Response;
use hpcc_agent::proto::{
    Cancel, Credit, Execute, ExecutionErrorCode, Exited, InputChunk, InputFile, InputLink, Limits,
    Ready, Scrub, SessionRequest, SessionResponse, Start,
};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::codegen::Bytes;
use tonic::transport::{Channel, Endpoint};
use tonic::{Status, Streaming};

/// Path of the host's socket of a vsock device whose guest runs the agent with the toolchain of `make_toolchain`.
/// With it the tests run against that guest, one after the other; without it each starts an agent of its own.
const GUEST_VARIABLE: &str = "HPCC_AGENT_TEST_VSOCK";
/// The guest's port.
const GUEST_PORT: u32 = 1024;

/// An agent to test.
pub struct Harness {
    process: Option<LocalAgent>,
    socket: PathBuf,
    pub limits_memory: bool,
    pub limits_pids: bool,
}

/// An agent in namespaces of its own on this machine, with the host's /usr and the probe as toolchain.
struct LocalAgent {
    process: Child,
    console: Arc<Mutex<Vec<String>>>,
    _folder: TempDir,
    group: String,
}

static HARNESSES: AtomicU32 = AtomicU32::new(0);

fn probe() -> &'static Path {
    static PROBE: OnceLock<(TempDir, PathBuf)> = OnceLock::new();
    &PROBE
        .get_or_init(|| {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("probe");
            let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/probe.c");
            let status = Command::new("gcc")
                .args(["-static", "-O1", "-w", "-o"])
                .arg(&path)
                .arg(source)
                .status()
                .unwrap();
            assert!(status.success());
            (folder, path)
        })
        .1
}

/// Fills a folder with what a test's toolchain holds beside /usr.
pub fn make_toolchain(root: &Path) {
    for name in ["usr", "probe", "etc", "hpcc", "sys", "empty", "var"] {
        std::fs::create_dir_all(root.join(name)).unwrap();
    }
    std::fs::write(root.join("hpcc/neighbour"), "secret").unwrap();
    std::fs::write(root.join("top-level-file"), "file").unwrap();
    std::fs::write(root.join("var/of-the-image"), "image").unwrap();
    std::fs::copy(probe(), root.join("probe/probe")).unwrap();
    for name in ["bin", "lib", "lib64"] {
        std::os::unix::fs::symlink(format!("usr/{name}"), root.join(name)).unwrap();
    }
}

impl Harness {
    pub fn start() -> Harness {
        match std::env::var_os(GUEST_VARIABLE) {
            Some(socket) => Harness {
                process: None,
                socket: socket.into(),
                limits_memory: true,
                limits_pids: true,
            },
            None => Harness::start_local(),
        }
    }

    /// True when the agent is in a virtual machine, whose processes this machine does not see.
    pub fn is_guest(&self) -> bool {
        self.process.is_none()
    }

    fn start_local() -> Harness {
        assert!(
            rustix::process::getuid().is_root(),
            "these tests make namespaces and need root"
        );
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("toolchain");
        make_toolchain(&root);
        let socket = folder.path().join("socket");
        let group = format!(
            "hpcc-test-{}-{}",
            std::process::id(),
            HARNESSES.fetch_add(1, Ordering::Relaxed)
        );
        let mut process = Command::new("unshare")
            .args(["--pid", "--mount", "--fork", "--kill-child", "sh", "-c"])
            .arg("mount --bind /usr \"$2/usr\" && exec \"$0\" \"$1\" \"$2\" \"$3\"")
            .arg(env!("CARGO_BIN_EXE_hpcc-agent"))
            .args([&socket, &root, Path::new(&group)])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let abilities = lines.next().unwrap().unwrap();
        assert_eq!(
            lines.next().unwrap().unwrap(),
            "hpcc-agent: listening",
            "after {abilities}"
        );
        let console = Arc::new(Mutex::new(Vec::new()));
        let said = console.clone();
        std::thread::spawn(move || lines.for_each(|line| said.lock().unwrap().push(line.unwrap())));
        Harness {
            process: Some(LocalAgent {
                process,
                console,
                _folder: folder,
                group,
            }),
            socket,
            limits_memory: abilities.contains("memory=true"),
            limits_pids: abilities.contains("pids=true"),
        }
    }

    /// Dials once and says nothing.
    pub fn dial(&self) -> std::os::unix::net::UnixStream {
        let mut stream = std::os::unix::net::UnixStream::connect(&self.socket).unwrap();
        if self.is_guest() {
            use std::io::{Read, Write};
            stream
                .write_all(format!("CONNECT {GUEST_PORT}\n").as_bytes())
                .unwrap();
            let mut byte = [0];
            while byte != *b"\n" {
                stream.read_exact(&mut byte).unwrap();
            }
        }
        stream
    }

    /// What a worker sends in a session that carries out a job and scrubs.
    pub async fn record(&self, job: Job) -> Vec<u8> {
        let (worker, mut relay) = tokio::io::duplex(1 << 20);
        let stream = self.dial();
        stream.set_nonblocking(true).unwrap();
        let agent = tokio::net::UnixStream::from_std(stream).unwrap();
        let relaying = tokio::spawn(async move {
            let (mut from_agent, mut to_agent) = agent.into_split();
            let (mut from_worker, mut to_worker) = tokio::io::split(&mut relay);
            let mut recorded = Vec::new();
            let record = async {
                let mut bytes = vec![0; 1 << 16];
                while let Ok(count @ 1..) = from_worker.read(&mut bytes).await {
                    recorded.extend_from_slice(&bytes[..count]);
                    if to_agent.write_all(&bytes[..count]).await.is_err() {
                        return;
                    }
                }
            };
            tokio::select! {
                () = record => {}
                _ = tokio::io::copy(&mut from_agent, &mut to_worker) => {}
            }
            recorded
        });
        let mut worker = Some(hyper_util::rt::TokioIo::new(worker));
        let connector = tower::service_fn(move |_| {
            let worker = worker.take();
            async move { worker.ok_or_else(|| std::io::Error::other("dialled twice")) }
        });
        let channel = Endpoint::from_static("http://agent")
            .connect_with_connector(connector)
            .await
            .unwrap();
        let mut client = AgentServiceClient::new(channel);
        let mut session = Session::open(&mut client).await.unwrap();
        session.run(job).await.ok();
        session.scrub().await.unwrap();
        relaying.await.unwrap()
    }

    /// Dials once and opens a channel.
    pub async fn client(&self) -> Result<AgentServiceClient<Channel>, Status> {
        let (socket, guest) = (self.socket.clone(), self.is_guest());
        let connector = tower::service_fn(move |_| {
            let socket = socket.clone();
            async move {
                let mut stream = tokio::net::UnixStream::connect(socket).await?;
                if guest {
                    stream
                        .write_all(format!("CONNECT {GUEST_PORT}\n").as_bytes())
                        .await?;
                    while stream.read_u8().await? != b'\n' {}
                }
                std::io::Result::Ok(hyper_util::rt::TokioIo::new(stream))
            }
        });
        let channel = Endpoint::from_static("http://agent")
            .connect_with_connector(connector)
            .await
            .map_err(|error| Status::unavailable(format!("{error:?}")))?;
        Ok(AgentServiceClient::new(channel))
    }

    /// Opens a session as soon as the last one is cleared away: until then each connection is closed at once.
    pub async fn session(&self) -> Session {
        self.session_with(start()).await.unwrap()
    }

    /// The same with another first message, whose refusal is given.
    pub async fn session_with(&self, first: SessionRequest) -> Result<Session, Status> {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            match self.try_session_with(first.clone()).await {
                Err(status) if is_closed(&status) => assert!(Instant::now() < deadline, "{status}"),
                opened => return opened,
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

impl Harness {
    /// Dials once and opens a session.
    pub async fn try_session_with(&self, first: SessionRequest) -> Result<Session, Status> {
        Session::open_with(&mut self.client().await?, first).await
    }

    /// The agent's PID 1 as this machine numbers it; None in a virtual machine.
    pub fn pid1(&self) -> Option<u32> {
        let unshare = self.process.as_ref()?.process.id();
        Some(children(unshare)[0])
    }

    /// The session process that lives.
    pub fn session_pid(&self) -> Option<u32> {
        children(self.pid1()?).first().copied()
    }

    /// Lines that the agent has written to its console after "listening".
    pub fn console(&self) -> Vec<String> {
        let process = self.process.as_ref();
        process.map_or_else(Vec::new, |local| local.console.lock().unwrap().clone())
    }
}

fn children(pid: u32) -> Vec<u32> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    text.split_ascii_whitespace()
        .map(|pid| pid.parse().unwrap())
        .collect()
}

/// What an HTTP/2 client says first.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Whether a stream failed because its connection was closed, and not by an answer.
pub fn is_closed(status: &Status) -> bool {
    matches!(
        status.code(),
        tonic::Code::Unknown
            | tonic::Code::Unavailable
            | tonic::Code::Cancelled
            | tonic::Code::Internal
    )
}

impl Drop for LocalAgent {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        for root in ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"] {
            remove_groups(&Path::new(root).join(&self.group));
        }
    }
}

/// Removes a control group and those below it, once the kernel has let go of what was killed in them.
fn remove_groups(group: &Path) {
    for entry in std::fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            remove_groups(&entry.path());
        }
    }
    let deadline = Instant::now() + Duration::from_secs(5);
    while group.exists() && std::fs::remove_dir(group).is_err() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// What became of an execution.
#[derive(Debug)]
pub enum Outcome {
    Exited {
        exited: Exited,
        streams: Vec<Vec<u8>>,
    },
    Error(ExecutionErrorCode, String),
}

impl Outcome {
    pub fn exited(&self) -> &Exited {
        match self {
            Outcome::Exited { exited, .. } => exited,
            Outcome::Error(code, message) => panic!("{code:?}: {message}"),
        }
    }

    /// stdout 0, stderr 1, outputs from 2.
    pub fn stream(&self, index: usize) -> &[u8] {
        self.exited();
        match self {
            Outcome::Exited { streams, .. } => &streams[index],
            Outcome::Error(..) => unreachable!(),
        }
    }

    pub fn stdout(&self) -> String {
        assert_eq!(self.exited().signal, 0);
        String::from_utf8(self.stream(0).to_vec()).unwrap()
    }

    pub fn stderr(&self) -> String {
        String::from_utf8(self.stream(1).to_vec()).unwrap()
    }

    /// Asserts success.
    pub fn ok(self) -> Outcome {
        let exited = self.exited();
        assert_eq!(
            (exited.exit_code, exited.signal),
            (0, 0),
            "{}",
            String::from_utf8_lossy(self.stream(1))
        );
        self
    }

    pub fn error(&self) -> ExecutionErrorCode {
        match self {
            Outcome::Error(code, _) => *code,
            Outcome::Exited { exited, streams } => {
                panic!("{exited:?} {}", String::from_utf8_lossy(&streams[1]))
            }
        }
    }
}

/// An execution to ask for.
pub struct Job {
    pub execute: Execute,
    pub frames: Vec<Vec<u8>>,
}

pub fn bytes(value: impl AsRef<[u8]>) -> Bytes {
    Bytes::copy_from_slice(value.as_ref())
}

impl Job {
    pub fn new(argv: &[&str]) -> Job {
        let execute = Execute {
            execution_id: 0,
            argv: argv.iter().map(bytes).collect(),
            environment: ["PATH=/usr/bin:/bin", "LC_ALL=C"].map(bytes).to_vec(),
            cwd: bytes("/hpcc/project"),
            inputs: Vec::new(),
            outputs: Vec::new(),
            limits: Some(Limits {
                wall_ms: 60_000,
                memory_bytes: 1 << 30,
                pids: 64,
                output_bytes: 64 << 20,
                stdio_bytes: 1 << 20,
            }),
            terminal_columns: 0,
            links: Vec::new(),
            folders: Vec::new(),
        };
        Job {
            execute,
            frames: Vec::new(),
        }
    }

    pub fn probe(arguments: &[&str]) -> Job {
        Job::new(&[&["/probe/probe"], arguments].concat())
    }

    pub fn input(mut self, path: impl AsRef<[u8]>, content: &[u8]) -> Job {
        let frame = if content.is_empty() {
            Vec::new()
        } else {
            zstd::bulk::compress(content, 3).unwrap()
        };
        self.execute.inputs.push(InputFile {
            path: bytes(path),
            mode: 0o644,
            size: content.len() as u64,
            frame_size: frame.len() as u64,
        });
        self.frames.push(frame);
        self
    }

    pub fn link(mut self, path: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Job {
        self.execute.links.push(InputLink {
            path: bytes(path),
            target: bytes(target),
        });
        self
    }

    pub fn folder(mut self, path: impl AsRef<[u8]>) -> Job {
        self.execute.folders.push(bytes(path));
        self
    }

    pub fn output(mut self, path: impl AsRef<[u8]>) -> Job {
        self.execute.outputs.push(bytes(path));
        self
    }

    pub fn limit(mut self, edit: impl FnOnce(&mut Limits)) -> Job {
        edit(self.execute.limits.as_mut().unwrap());
        self
    }

    pub fn edit(mut self, edit: impl FnOnce(&mut Execute)) -> Job {
        edit(&mut self.execute);
        self
    }
}

/// A worker's side of a session.
pub struct Session {
    pub client: AgentServiceClient<Channel>,
    requests: Option<mpsc::Sender<SessionRequest>>,
    pub responses: Streaming<SessionResponse>,
    pub ready: Ready,
    next_id: u64,
    partial: HashMap<u64, (Exited, Vec<Vec<u8>>)>,
    /// Give credit for what is received.
    pub generous: bool,
}

pub fn wall_time_ns() -> i64 {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    now.as_nanos() as i64
}

pub fn start() -> SessionRequest {
    let start = Start {
        protocol_version: 4,
        nonce: bytes([7; 32]),
        entropy: vec![9; 32],
        wall_time_ns: wall_time_ns(),
    };
    SessionRequest {
        message: Some(Request::Start(start)),
    }
}

impl Session {
    pub async fn open(client: &mut AgentServiceClient<Channel>) -> Result<Session, Status> {
        Session::open_with(client, start()).await
    }

    pub async fn open_with(
        client: &mut AgentServiceClient<Channel>,
        first: SessionRequest,
    ) -> Result<Session, Status> {
        let (requests, receiver) = mpsc::channel(16);
        requests.send(first).await.unwrap();
        let mut responses = client
            .session(ReceiverStream::new(receiver))
            .await?
            .into_inner();
        let Some(SessionResponse {
            message: Some(Response::Ready(ready)),
        }) = responses.message().await?
        else {
            panic!("no ready");
        };
        Ok(Session {
            client: client.clone(),
            requests: Some(requests),
            responses,
            ready,
            next_id: 1,
            partial: HashMap::new(),
            generous: true,
        })
    }

    pub async fn send(&self, message: Request) {
        self.requests
            .as_ref()
            .unwrap()
            .send(SessionRequest {
                message: Some(message),
            })
            .await
            .unwrap();
    }

    pub async fn send_raw(&self, request: SessionRequest) {
        self.requests.as_ref().unwrap().send(request).await.unwrap();
    }

    /// Has everything cleared away; gives what the agent still sends, which is to be nothing.
    pub async fn scrub(mut self) -> Result<(), Status> {
        self.send(Request::Scrub(Scrub {})).await;
        match self.responses.message().await? {
            None => Ok(()),
            Some(message) => panic!("after the scrub: {message:?}"),
        }
    }

    /// Ends the worker's half of the stream.
    pub fn close(&mut self) {
        self.requests = None;
    }

    /// Sends a job with all its inputs; gives its id.
    pub async fn begin(&mut self, mut job: Job) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        job.execute.execution_id = id;
        self.send(Request::Execute(job.execute)).await;
        for (input_index, frame) in (0..).zip(job.frames) {
            for chunk in frame.chunks(128 * 1024) {
                self.send(Request::Input(InputChunk {
                    execution_id: id,
                    input_index,
                    data: bytes(chunk),
                }))
                .await;
            }
        }
        id
    }

    pub async fn cancel(&self, id: u64) {
        self.send(Request::Cancel(Cancel { execution_id: id }))
            .await;
    }

    pub async fn credit(&self, id: u64, bytes: u32) {
        self.send(Request::Credit(Credit {
            execution_id: id,
            bytes,
        }))
        .await;
    }

    /// The next execution that is finished.
    pub async fn next_outcome(&mut self) -> (u64, Outcome) {
        loop {
            if let Some(id) = self
                .partial
                .iter()
                .find(|(_, partial)| whole(partial))
                .map(|(id, _)| *id)
            {
                let (exited, streams) = self.partial.remove(&id).unwrap();
                return (id, Outcome::Exited { exited, streams });
            }
            let message = self
                .responses
                .message()
                .await
                .unwrap()
                .expect("the stream ended")
                .message
                .unwrap();
            match message {
                Response::Ready(_) => panic!("a second ready"),
                Response::Error(error) => {
                    self.partial.remove(&error.execution_id);
                    return (
                        error.execution_id,
                        Outcome::Error(error.code(), error.message),
                    );
                }
                Response::Exited(exited) => {
                    let streams = vec![Vec::new(); 2 + exited.outputs.len()];
                    assert!(
                        self.partial
                            .insert(exited.execution_id, (exited, streams))
                            .is_none()
                    );
                }
                Response::Clock(_) => panic!("a clock nobody asked for"),
                Response::Output(chunk) => {
                    assert!((1..=128 * 1024).contains(&chunk.data.len()));
                    let (exited, streams) = self.partial.get_mut(&chunk.execution_id).unwrap();
                    let index = chunk.stream_index as usize;
                    assert!(
                        streams[index + 1..].iter().all(Vec::is_empty),
                        "out of order"
                    );
                    streams[index].extend_from_slice(&chunk.data);
                    assert!(streams[index].len() as u64 <= size_of_stream(exited, index));
                    if self.generous {
                        let _ = self
                            .requests
                            .as_ref()
                            .unwrap()
                            .send(SessionRequest {
                                message: Some(Request::Credit(Credit {
                                    execution_id: chunk.execution_id,
                                    bytes: chunk.data.len() as u32,
                                })),
                            })
                            .await;
                    }
                }
            }
        }
    }

    pub async fn run(&mut self, job: Job) -> Outcome {
        let id = self.begin(job).await;
        let (ended, outcome) = self.next_outcome().await;
        assert_eq!(ended, id);
        outcome
    }
}

/// Says that a test or a part of it did not run; scripts/test.ts then counts the test as skipped.
pub fn skipped(what: &str, why: &str) {
    println!("SKIPPED {what}: {why}");
}

/// Processes on this machine, whatever namespace they are in.
pub fn processes_named(name: &str) -> usize {
    let named = |folder: std::io::Result<std::fs::DirEntry>| {
        std::fs::read_to_string(folder.unwrap().path().join("comm"))
            .is_ok_and(|comm| comm.trim() == name)
    };
    std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|folder| named(folder).then_some(()))
        .count()
}

fn size_of_stream(exited: &Exited, index: usize) -> u64 {
    match index {
        0 => exited.stdout_size,
        1 => exited.stderr_size,
        _ => exited.outputs[index - 2].size,
    }
}

fn whole((exited, streams): &(Exited, Vec<Vec<u8>>)) -> bool {
    streams
        .iter()
        .enumerate()
        .all(|(index, stream)| stream.len() as u64 == size_of_stream(exited, index))
}
