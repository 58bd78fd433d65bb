//! The connection to the daemon: whole frames in and out, each wait with a deadline and an eye on signals.
//! UNTRUSTED: daemon, until its user is checked, and its bytes after that too.

use crate::fault::Fault;
use crate::signals::{Notice, Signals};
use crate::sys;
use hpcc_frames::{Message, decode_message, encode_message, fault_name, frame_length};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

/// One read; more when a large frame is on its way. Zeroing what is not needed costs a small answer its time.
const READ_BYTES: usize = 16 * 1024;
const READ_BYTES_MAX: usize = 1024 * 1024;
const FRAME_HEADER_BYTES: usize = 4;

pub struct Connection {
    socket: OwnedFd,
    buffer: Vec<u8>,
    silence: Duration,
}

/// What a wait ended with.
pub enum Event {
    Message(Box<Message>),
    /// A child changed its state.
    Child,
    /// What was to be listened to has something.
    Heard,
    /// The call is to end of this signal.
    End(i32),
    /// The caller's own deadline is over.
    Deadline,
}

/// Why no connection was made.
pub enum ConnectError {
    /// Nobody listens: a daemon may be started.
    NobodyListens,
    /// Somebody listens, and more callers wait than he lets wait.
    Busy,
    Fault(Fault),
}

/// Connects and checks that the peer is the same user.
pub fn connect(path: &[u8], silence: Duration) -> Result<Connection, ConnectError> {
    let fault = |error: io::Error| ConnectError::Fault(Fault::io("connect", path, &error));
    let socket = match open_socket(path) {
        Ok(socket) => socket,
        Err(error) => {
            return Err(match error.raw_os_error() {
                Some(libc::ENOENT | libc::ECONNREFUSED) => ConnectError::NobodyListens,
                Some(libc::EAGAIN) => ConnectError::Busy,
                _ => fault(error),
            });
        }
    };
    let user = peer_user(&socket).map_err(fault)?;
    if user != sys::effective_user() {
        return Err(ConnectError::Fault(Fault::new(
            "peer-user",
            format!("the socket belongs to user {user}"),
        )));
    }
    Ok(Connection {
        socket,
        buffer: Vec::new(),
        silence,
    })
}

/// Never waits: the kernel would, for as long as nobody accepts.
fn open_socket(path: &[u8]) -> io::Result<OwnedFd> {
    // SAFETY: all zeroes is a valid `sockaddr_un`.
    let mut address: libc::sockaddr_un = unsafe { std::mem::zeroed() };
    address.sun_family = libc::AF_UNIX as libc::sa_family_t;
    if path.len() >= address.sun_path.len() {
        return Err(io::Error::from_raw_os_error(libc::ENAMETOOLONG));
    }
    for (to, &from) in address.sun_path.iter_mut().zip(path) {
        *to = from as libc::c_char;
    }
    // SAFETY: no pointers.
    let fd = sys::check(unsafe {
        libc::socket(
            libc::AF_UNIX,
            libc::SOCK_STREAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK,
            0,
        )
    })?;
    // SAFETY: the kernel just gave us this descriptor.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    let length = size_of::<libc::sockaddr_un>() as libc::socklen_t;
    // SAFETY: the address is as long as said.
    sys::check(unsafe { libc::connect(fd, (&raw const address).cast(), length) })?;
    Ok(socket)
}

fn peer_user(socket: &OwnedFd) -> io::Result<u32> {
    let mut peer = libc::ucred {
        pid: 0,
        uid: 0,
        gid: 0,
    };
    let mut length = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: the buffer is as long as said.
    sys::check(unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut peer).cast(),
            &raw mut length,
        )
    })?;
    Ok(peer.uid)
}

impl Connection {
    /// Sends a message; gives up when the daemon takes nothing for as long as it may be silent.
    pub fn send(&self, message: &Message, signals: &Signals) -> Result<(), Fault> {
        let frame =
            encode_message(message).map_err(|fault| Fault::new("limits", fault_name(fault)))?;
        let mut bytes = frame.as_slice();
        while !bytes.is_empty() {
            match sys::send(self.socket.as_fd(), bytes) {
                Ok(count) => bytes = &bytes[count..],
                Err(error) => match error.raw_os_error() {
                    Some(libc::EINTR) => {}
                    Some(libc::EAGAIN) => self.wait_writable(signals)?,
                    _ => return Err(Fault::io("closed", b"send", &error)),
                },
            }
        }
        Ok(())
    }

    fn wait_writable(&self, signals: &Signals) -> Result<(), Fault> {
        let mut entries = [
            sys::poll_entry(self.socket.as_raw_fd(), libc::POLLOUT),
            sys::poll_entry(signals.raw_descriptor(), libc::POLLIN),
        ];
        let ready = sys::poll(&mut entries, Some(self.silence))
            .map_err(|error| Fault::io("poll", b"poll", &error))?;
        if !ready {
            return Err(Fault::new("silence", "the daemon takes nothing"));
        }
        if let Some(Notice::End(signal)) = signals.next() {
            signals.die_of(signal);
        }
        Ok(())
    }

    /// Sends without waiting and without telling of a failure.
    pub fn send_courtesy(&self, message: &Message) {
        if let Ok(frame) = encode_message(message) {
            // A frame that does not go out is not missed; the rest of a torn one neither, since the connection ends.
            let _ = sys::send(self.socket.as_fd(), &frame);
        }
    }

    /// Tells the daemon that the call is given up, while this process still has something to tidy up.
    pub fn close(&self) {
        // SAFETY: no pointers.
        unsafe { libc::shutdown(self.socket.as_raw_fd(), libc::SHUT_RDWR) };
    }

    /// The next event, or a fault when the daemon is silent for too long.
    pub fn next_message(&mut self, signals: &Signals) -> Result<Event, Fault> {
        let deadline = Instant::now() + self.silence;
        match self.next_event(signals, Some(deadline), None)? {
            Event::Deadline => Err(Fault::new(
                "silence",
                format!("no frame for {} ms", self.silence.as_millis()),
            )),
            event => Ok(event),
        }
    }

    /// The next event up to a deadline of the caller's, also of what is to be `heard`. The end of the connection is a fault.
    pub fn next_event(
        &mut self,
        signals: &Signals,
        deadline: Option<Instant>,
        heard: Option<BorrowedFd<'_>>,
    ) -> Result<Event, Fault> {
        loop {
            match signals.next() {
                Some(Notice::End(signal)) => return Ok(Event::End(signal)),
                Some(Notice::Child) => return Ok(Event::Child),
                None => {}
            }
            if let Some(message) = self.take_frame()? {
                return Ok(Event::Message(Box::new(message)));
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            let mut entries = [
                sys::poll_entry(self.socket.as_raw_fd(), libc::POLLIN),
                sys::poll_entry(signals.raw_descriptor(), libc::POLLIN),
                // A negative descriptor is passed over.
                sys::poll_entry(heard.map_or(-1, |heard| heard.as_raw_fd()), libc::POLLIN),
            ];
            let ready = sys::poll(&mut entries, left)
                .map_err(|error| Fault::io("poll", b"poll", &error))?;
            if !ready {
                return Ok(Event::Deadline);
            }
            if entries[0].revents != 0 {
                self.fill()?;
            }
            if entries[2].revents != 0 {
                return Ok(Event::Heard);
            }
        }
    }

    fn fill(&mut self) -> Result<(), Fault> {
        let length = self.buffer.len();
        let expected = self
            .buffer
            .first_chunk::<FRAME_HEADER_BYTES>()
            .map_or(0, |header| {
                u32::from_le_bytes(*header) as usize + FRAME_HEADER_BYTES
            });
        let count = expected
            .saturating_sub(length)
            .clamp(READ_BYTES, READ_BYTES_MAX);
        self.buffer.resize(length + count, 0);
        let result = sys::read(self.socket.as_fd(), &mut self.buffer[length..]);
        self.buffer
            .truncate(length + *result.as_ref().unwrap_or(&0));
        match result {
            Ok(0) => Err(Fault::new("closed", "the daemon ended the connection")),
            Ok(_) => Ok(()),
            Err(error) if matches!(error.raw_os_error(), Some(libc::EINTR | libc::EAGAIN)) => {
                Ok(())
            }
            Err(error) => Err(Fault::io("closed", b"receive", &error)),
        }
    }

    fn take_frame(&mut self) -> Result<Option<Message>, Fault> {
        let rubbish = |fault| Fault::new("protocol", fault_name(fault));
        let Some(header) = self.buffer.first_chunk::<FRAME_HEADER_BYTES>() else {
            return Ok(None);
        };
        let end = FRAME_HEADER_BYTES + frame_length(*header).map_err(rubbish)?;
        let Some((&frame_type, fields)) = self
            .buffer
            .get(FRAME_HEADER_BYTES..end)
            .and_then(|frame| frame.split_first())
        else {
            return Ok(None);
        };
        let message = decode_message(frame_type, fields).map_err(rubbish)?;
        self.buffer.drain(..end);
        Ok(Some(message))
    }
}
