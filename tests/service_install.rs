//! Installing and removing the service, as often as somebody likes.

#![expect(clippy::unwrap_used, reason = "in a test, what is not there is a failure")]
#![cfg(target_os = "linux")]

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, process::Command};

/// Runs `service` with a `systemctl` that writes down what it was told; answers that and whether it
/// worked.
fn service(stage: &Path, what: &str) -> (bool, String) {
    let log = stage.join("log");
    let _ = fs::remove_file(&log);
    let done = Command::new(env!("CARGO_BIN_EXE_open-dispatch"))
        .args(["service", what, "--data"])
        .arg(stage.join("data"))
        .env_clear()
        .env("HOME", stage)
        .env("LOG", &log)
        .env("PATH", format!("{}:/usr/bin:/bin", stage.join("bin").display()))
        .current_dir(stage)
        .output()
        .unwrap();
    (done.status.success(), fs::read_to_string(log).unwrap_or_default())
}

#[test]
fn the_service_is_installed_and_removed_as_often_as_somebody_says_so() {
    let stage = tempfile::tempdir().unwrap();
    let (stage, bin) = (stage.path(), stage.path().join("bin"));
    fs::create_dir(&bin).unwrap();
    let systemctl = bin.join("systemctl");
    fs::write(&systemctl, "#!/bin/sh\necho \"$@\" >> \"$LOG\"\n").unwrap();
    fs::set_permissions(&systemctl, fs::Permissions::from_mode(0o755)).unwrap();
    let unit = stage.join(".config/systemd/user/open-dispatch.service");
    let installs = "--user daemon-reload\n--user enable open-dispatch.service\n\
                    --user restart open-dispatch.service\n";
    assert_eq!(service(stage, "install"), (true, installs.to_owned()));
    let first = fs::read_to_string(&unit).unwrap();
    assert_eq!(service(stage, "install"), (true, installs.to_owned()), "what runs is the new one");
    assert_eq!(fs::read_to_string(&unit).unwrap(), first);
    let removes = "--user disable --now open-dispatch.service\n--user daemon-reload\n";
    assert_eq!(service(stage, "uninstall"), (true, removes.to_owned()));
    assert!(!unit.exists());
    assert_eq!(service(stage, "uninstall"), (true, String::new()), "nothing is there");
}
