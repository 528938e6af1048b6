//! `install.sh` installs both programs beside each other, or nothing.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output},
    thread,
};

use sha2::{Digest, Sha256};
use tempfile::TempDir;

/// A release on a web server of this machine, and a home to install into.
struct Release {
    files: BTreeMap<String, Vec<u8>>,
    dir: TempDir,
}

impl Release {
    /// An archive for this system with these programs, and its checksum.
    fn with(programs: &[&str]) -> Self {
        let dir = TempDir::new().unwrap();
        let name = "open-dispatch-x86_64-unknown-linux-musl";
        let inner = dir.path().join("pack").join(name);
        fs::create_dir_all(&inner).unwrap();
        for program in programs {
            fs::write(inner.join(program), format!("#!/bin/sh\necho this is {program}\n")).unwrap();
        }
        let archive = dir.path().join("archive");
        let packed = Command::new("tar")
            .args(["-czf".as_ref(), archive.as_os_str(), "-C".as_ref()])
            .args([dir.path().join("pack").as_os_str(), name.as_ref()])
            .status()
            .unwrap();
        assert!(packed.success());
        let archive = fs::read(archive).unwrap();
        let sum: String =
            Sha256::digest(&archive).iter().map(|byte| format!("{byte:02x}")).collect();
        let sums = format!("{}  other.tar.gz\n{sum}  {name}.tar.gz\n", "0".repeat(64));
        let files = [(format!("/{name}.tar.gz"), archive), ("/SHA256SUMS".to_owned(), sums.into())];
        Self { files: files.into(), dir }
    }

    fn home(&self) -> PathBuf {
        self.dir.path().join("home")
    }

    fn bin(&self) -> PathBuf {
        self.home().join(".local/bin")
    }

    /// Runs the installer as on a machine that calls itself this.
    fn install_on(&self, system: &str, machine: &str) -> Output {
        let tools = self.dir.path().join("tools");
        fs::create_dir_all(&tools).unwrap();
        fs::create_dir_all(self.home()).unwrap();
        let uname = tools.join("uname");
        fs::write(
            &uname,
            format!("#!/bin/sh\ncase $1 in -s) echo {system};; *) echo {machine};; esac\n"),
        )
        .unwrap();
        fs::set_permissions(&uname, fs::Permissions::from_mode(0o755)).unwrap();
        Command::new("sh")
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("install.sh"))
            .env_clear()
            .env("PATH", format!("{}:/usr/local/bin:/usr/bin:/bin", tools.display()))
            .env("HOME", self.home())
            .env("OPEN_DISPATCH_BASE_URL", serve(self.files.clone()))
            .output()
            .unwrap()
    }

    fn install(&self) -> Output {
        self.install_on("Linux", "x86_64")
    }

    /// What was installed.
    fn installed(&self) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(self.bin())
            .into_iter()
            .flatten()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

/// Serves files on the loopback; answers its address. The thread ends with the test's process.
fn serve(files: BTreeMap<String, Vec<u8>>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            let request = lines.next().unwrap().unwrap();
            while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
            let path = request.split(' ').nth(1).unwrap_or_default();
            let (status, body) = match files.get(path) {
                Some(body) => ("200 OK", body.as_slice()),
                None => ("404 Not Found", &b"nothing here"[..]),
            };
            let head = format!(
                "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                body.len()
            );
            // A client that hangs up has what it wants.
            let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
        }
    });
    format!("http://{address}")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn both_programs_are_installed_beside_each_other_and_start() {
    let release = Release::with(&["open-dispatch", "sprite-reporter"]);
    let output = release.install();
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(release.installed(), ["open-dispatch", "sprite-reporter"]);
    for program in ["open-dispatch", "sprite-reporter"] {
        let output = Command::new(release.bin().join(program)).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), format!("this is {program}\n"));
    }
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(told.contains("add it to your PATH"), "{told}");
}

#[test]
fn an_older_version_is_replaced() {
    let release = Release::with(&["open-dispatch", "sprite-reporter"]);
    fs::create_dir_all(release.bin()).unwrap();
    fs::write(release.bin().join("open-dispatch"), "old").unwrap();
    assert!(release.install().status.success());
    let text = fs::read_to_string(release.bin().join("open-dispatch")).unwrap();
    assert!(text.contains("this is open-dispatch"), "{text}");
}

#[test]
fn a_wrong_checksum_installs_nothing() {
    let mut release = Release::with(&["open-dispatch", "sprite-reporter"]);
    release.files.values_mut().next_back().unwrap().push(b'x');
    let output = release.install();
    assert!(!output.status.success());
    assert!(said(&output).contains("the checksum of"), "{}", said(&output));
    assert_eq!(release.installed(), [""; 0]);
}

#[test]
fn a_file_without_a_checksum_is_not_trusted() {
    let mut release = Release::with(&["open-dispatch", "sprite-reporter"]);
    release.files.insert("/SHA256SUMS".to_owned(), Vec::new());
    let output = release.install();
    assert!(!output.status.success());
    assert!(said(&output).contains("says nothing of"), "{}", said(&output));
    assert_eq!(release.installed(), [""; 0]);
}

#[test]
fn an_archive_that_lacks_a_program_installs_nothing() {
    let release = Release::with(&["open-dispatch"]);
    let output = release.install();
    assert!(!output.status.success());
    assert!(said(&output).contains("has no sprite-reporter"), "{}", said(&output));
    assert_eq!(release.installed(), [""; 0]);
}

#[test]
fn a_missing_release_is_said_with_its_address() {
    let mut release = Release::with(&[]);
    release.files.clear();
    let output = release.install();
    assert!(!output.status.success());
    assert!(said(&output).contains("cannot download http://127.0.0.1"), "{}", said(&output));
}

#[test]
fn a_system_without_a_build_is_said() {
    let release = Release::with(&["open-dispatch", "sprite-reporter"]);
    for (system, machine) in [("Linux", "riscv64"), ("MINGW64_NT-10.0", "x86_64")] {
        let output = release.install_on(system, machine);
        assert!(!output.status.success(), "{system} {machine}");
        assert!(said(&output).contains("there is no build for"), "{}", said(&output));
    }
}
