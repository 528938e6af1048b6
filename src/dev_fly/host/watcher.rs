//! What outlives a fake that is killed, for as long as it takes to kill its machines.
//!
//! It is a shell that reads a pipe which the fake holds open. When the fake is gone, however it
//! went, the pipe ends, and the shell kills what carries the fake's marker.

use std::process::Stdio;

use tokio::process::{Child, ChildStdin, Command};

use super::files::{Files, MARKER};

/// `$1`: the directory; `$2`: this fake's own mark; `$3`: the name of the variable. A process
/// whose environment may not be read is known by its group, which is noted while it runs.
const SCRIPT: &str = r#"
cat >/dev/null
for note in "$1"/machines/*/group."$2"; do
  [ -f "$note" ] && kill -KILL -- "-$(cat "$note")" 2>/dev/null
done
for round in 1 2 3 4 5 6 7 8 9; do
  left=
  for process in /proc/[0-9]*; do
    if tr '\0' '\n' 2>/dev/null <"$process/environ" | grep -qF "$3=$1#$2#" 2>/dev/null; then
      kill -KILL "${process#/proc/}" 2>/dev/null && left=1
    fi
  done
  [ -z "$left" ] && break
done 2>/dev/null
"#;

/// The watcher of a fake.
pub(in crate::dev_fly) struct Watcher {
    child: Child,
    pipe: Option<ChildStdin>,
}

impl Watcher {
    /// Starts one; without a shell there is none.
    pub(super) fn start(files: &Files) -> Option<Self> {
        let spawned = Command::new("/bin/sh")
            .args(["-c", SCRIPT, "dev-fly-watcher"])
            .arg(files.dir())
            .arg(files.instance())
            .arg(MARKER)
            // A Ctrl-C at the terminal is for the fake.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        match spawned {
            Ok(mut child) => {
                let pipe = child.stdin.take();
                Some(Self { child, pipe })
            }
            Err(error) => {
                files.complain(&format!(
                    "nothing will end the machines of a dev-fly that is killed: {error}"
                ));
                None
            }
        }
    }

    /// Lets it look once, and waits for its end.
    pub(in crate::dev_fly) async fn end(mut self) {
        drop(self.pipe.take());
        let _ = self.child.wait().await;
    }
}
