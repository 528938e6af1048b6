//! Promise: the client libraries of Kubernetes for Python and Node.js are clients of this server:
//! they find kinds by discovery, write by every patch, meet conflicts as they know them, and their
//! informers go on over a crash of the server without losing a change.

#![expect(clippy::unwrap_used, reason = "in a test, what is not there is a failure")]

#[path = "support/clients.rs"]
#[expect(dead_code, reason = "the support serves more than this binary")]
mod clients;
#[path = "support/server.rs"]
#[expect(dead_code, reason = "the support serves more than this binary")]
mod server;

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    process::{Command, Stdio},
};

use clients::Rig;

/// Runs a script to its end, and restarts the server by a crash where it asks for that; gives the
/// steps that it has done.
fn tour(rig: &mut Rig, mut command: Command, script: &str) -> Vec<String> {
    let mut child = command
        .arg(Rig::script(script))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stderr = child.stderr.take().unwrap();
    let faults = std::thread::spawn(move || {
        let mut text = String::new();
        let _ = stderr.read_to_string(&mut text);
        text
    });
    let mut steps = Vec::new();
    for line in BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok) {
        match line.strip_prefix("done ") {
            Some(step) => steps.push(step.to_owned()),
            None if line == "restart" => {
                rig.world.kill_server();
                rig.world.serve(&[]);
                writeln!(child.stdin.as_ref().unwrap(), "go").unwrap();
            }
            None => {}
        }
    }
    let status = child.wait().unwrap();
    assert!(status.success(), "behind {steps:?}: {}", faults.join().unwrap());
    steps
}

#[test]
fn the_python_client_is_at_home() {
    let mut rig = Rig::new("operator");
    let Some(python) = rig.python() else { return };
    let steps = tour(&mut rig, python, "tour.py");
    let all = [
        "custom objects",
        "pages",
        "dynamic client",
        "scale",
        "expired",
        "bookmarks",
        "informers",
        "all",
    ];
    assert_eq!(steps, all);
}

#[test]
fn the_node_client_is_at_home() {
    let mut rig = Rig::new("operator");
    let Some(node) = rig.node() else { return };
    let steps = tour(&mut rig, node, "tour.mjs");
    assert_eq!(
        steps,
        ["custom objects", "any object", "scale", "informers", "watch", "expired", "all"]
    );
}
