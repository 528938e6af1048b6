//! A pseudo terminal with a program in it, typed into and read from as a person would.
#![expect(clippy::unwrap_used, reason = "a test fails where something is missing")]

use std::{
    fs::File,
    io::{Read as _, Write as _},
    os::fd::OwnedFd,
    process::{Child, Command, ExitStatus},
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{Mode, OFlags},
    process::{Pid, Signal},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{LocalModes, tcgetattr},
};

/// The longest that anything may take before its test fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// A terminal, and the program that runs in it.
pub struct Terminal {
    /// The side of the person; none once it was closed.
    keyboard: Option<Arc<File>>,
    /// Reads what the program prints, until the window is closed.
    reader: Option<JoinHandle<()>>,
    /// The side of the program, held open so that its settings can be looked at.
    screen: Option<OwnedFd>,
    child: Child,
    printed: Arc<Printed>,
}

#[derive(Default)]
struct Printed {
    bytes: Mutex<Vec<u8>>,
    more: Condvar,
    closed: AtomicBool,
}

impl Printed {
    fn read(&self, mut keyboard: &File) {
        let moment = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
        let mut buffer = [0; 4096];
        while !self.closed.load(Ordering::SeqCst) {
            let ready = poll(&mut [PollFd::new(keyboard, PollFlags::IN)], Some(&moment));
            if ready == Ok(0) {
                continue;
            }
            let Ok(count @ 1..) = keyboard.read(&mut buffer) else { return };
            self.bytes.lock().unwrap().extend_from_slice(&buffer[..count]);
            self.more.notify_all();
        }
    }
}

impl Terminal {
    /// Runs a command in a new terminal.
    pub fn run(command: &mut Command) -> Self {
        let keyboard =
            openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&keyboard).unwrap();
        unlockpt(&keyboard).unwrap();
        let name = ptsname(&keyboard, Vec::new()).unwrap();
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let screen = rustix::fs::open(&name, flags, Mode::empty()).unwrap();
        let end = || screen.try_clone().unwrap();
        let child = command
            .env("TERM", "xterm")
            .env("NO_COLOR", "1")
            .stdin(end())
            .stdout(end())
            .stderr(end())
            .spawn()
            .unwrap();
        // The command would hold the terminal open.
        command.stdin(std::process::Stdio::null());
        command.stdout(std::process::Stdio::null());
        command.stderr(std::process::Stdio::null());
        let keyboard = Arc::new(File::from(keyboard));
        let printed = Arc::new(Printed::default());
        let (hand, heard) = (Arc::clone(&keyboard), Arc::clone(&printed));
        let reader = Some(std::thread::spawn(move || heard.read(&hand)));
        Self { keyboard: Some(keyboard), reader, screen: Some(screen), child, printed }
    }

    /// Presses keys.
    pub fn types(&self, keys: &str) {
        let mut keyboard: &File = self.keyboard.as_ref().unwrap();
        keyboard.write_all(keys.as_bytes()).unwrap();
    }

    /// The lines that stand on the screen, without what moves the cursor.
    pub fn lines(&self) -> Vec<String> {
        lines(&self.printed.bytes.lock().unwrap())
    }

    /// Waits until a line of the screen is as wanted.
    pub fn shows(&self, wanted: impl Fn(&str) -> bool) {
        self.until(|lines| lines.iter().any(|line| wanted(line)));
    }

    /// Waits until the last line of the screen is as wanted.
    pub fn shows_last(&self, wanted: impl Fn(&str) -> bool) {
        self.until(|lines| lines.last().is_some_and(|line| wanted(line)));
    }

    /// Waits until all lines of the screen together are as wanted.
    pub fn shows_all(&self, wanted: impl Fn(&[String]) -> bool) {
        self.until(wanted);
    }

    fn until(&self, holds: impl Fn(&[String]) -> bool) {
        let bytes = self.printed.bytes.lock().unwrap();
        let missing = |bytes: &mut Vec<u8>| !holds(&lines(bytes));
        let (bytes, late) = self.printed.more.wait_timeout_while(bytes, PATIENCE, missing).unwrap();
        assert!(!late.timed_out(), "it never came:\n{}", lines(&bytes).join("\n"));
    }

    /// Sends the program a signal.
    pub fn signal(&self, signal: Signal) {
        rustix::process::kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Whether the terminal edits lines itself and shows what is typed, as a shell wants it.
    pub fn is_cooked(&self) -> bool {
        let modes = tcgetattr(self.screen.as_ref().unwrap()).unwrap().local_modes;
        modes.contains(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG)
    }

    /// Closes the window.
    pub fn hang_up(&mut self) {
        self.printed.closed.store(true, Ordering::SeqCst);
        self.reader.take().unwrap().join().unwrap();
        self.screen = None;
        // The last descriptor of the person's side.
        self.keyboard = None;
    }

    /// Waits for the program's end.
    pub fn wait(&mut self) -> ExitStatus {
        const LOOK: Duration = Duration::from_millis(20);
        for _ in 0..PATIENCE.as_millis() / LOOK.as_millis() {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            let bytes = self.printed.bytes.lock().unwrap();
            drop(self.printed.more.wait_timeout(bytes, LOOK).unwrap());
        }
        panic!("it does not end:\n{}", self.lines().join("\n"));
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.printed.closed.store(true, Ordering::SeqCst);
    }
}

/// What stands on a screen after these bytes. It knows what a line editor uses: the cursor goes
/// left, right and up, and the rest of the screen is wiped.
fn lines(bytes: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(bytes);
    let (mut rows, mut row, mut column) = (vec![Vec::new()], 0, 0);
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '\u{1b}' if letters.peek() == Some(&'[') => {
                letters.next();
                let mut number = String::new();
                let order = letters.by_ref().find(|letter| {
                    number.extend(letter.is_ascii_digit().then_some(*letter));
                    letter.is_ascii_alphabetic()
                });
                let count = number.parse().unwrap_or(1);
                match order {
                    Some('A') => row = usize::saturating_sub(row, count),
                    Some('C') => column += count,
                    Some('D') => column = usize::saturating_sub(column, count),
                    Some('K') => rows[row].truncate(column),
                    Some('J') => {
                        rows[row].truncate(column);
                        rows.truncate(row + 1);
                    }
                    _ => {}
                }
            }
            '\r' => column = 0,
            '\n' => {
                row += 1;
                if row == rows.len() {
                    rows.push(Vec::new());
                }
            }
            shown => {
                let line = &mut rows[row];
                line.resize(line.len().max(column + 1), ' ');
                line[column] = shown;
                column += 1;
            }
        }
    }
    rows.into_iter().map(String::from_iter).collect()
}
