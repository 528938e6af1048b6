//! What a turn leaves running: processes that an agent started during a turn and did not end
//! when the turn was cancelled.
//!
//! Most agents kill a tool's whole tree when they are interrupted. Some let it run on. Whoever
//! cancels a turn means the tool as well; so a driver takes down who is there when the turn
//! begins ([`Roster::of`]) and, after the cancel was answered, ends the newcomers
//! ([`Roster::end_newcomers`]).
//!
//! Not each newcomer is a tool: an agent may start a helper of its own in any turn. What tells them
//! apart is how they are started: a tool gets a session or a process group of its own, so
//! that it can be ended together with what it starts; a helper stays in the agent's. So a newcomer
//! is ended if it leads a session or a group, was left by its parent, or comes from one of those.
//!
//! A process is known by its number and its start time, so that a number that comes again is a
//! newcomer; and each is looked at again right before it gets a signal.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    time::Duration,
};

use rustix::process::Signal;

use super::{Entry, HOUSEHOLD, Handle, Tree, platform, reap_orphans};
use crate::{ambient, wire::ProcessIdentity};

/// How long newcomers may take to end by themselves.
const PATIENCE: Duration = Duration::from_millis(500);
/// How long until those that are told to end at once are given up: they hang in the kernel.
const HOPE: Duration = Duration::from_secs(2);
/// How often they are looked at.
const LOOK: Duration = Duration::from_millis(10);

/// The processes that an agent has at one moment.
#[derive(Debug, Clone)]
pub struct Roster {
    agent: u32,
    known: BTreeSet<(u32, u64)>,
}

impl Roster {
    /// Who is there now, of the agent whose first process has this number.
    ///
    /// # Errors
    /// What kept it from looking.
    pub fn of(agent: u32) -> io::Result<Self> {
        let known = members(agent)?.into_iter().map(|it| (it.pid, it.started)).collect();
        Ok(Self { agent, known })
    }

    /// Ends the tools among those that came since, with all that they started: asks first, then
    /// kills. Answers how many there were.
    ///
    /// # Errors
    /// What kept it from looking.
    pub async fn end_newcomers(&self) -> io::Result<usize> {
        let mut ended = BTreeSet::new();
        let begun = ambient::elapsed();
        loop {
            let tools = tools(self.agent, &self.known, &members(self.agent)?);
            if tools.is_empty() {
                return Ok(ended.len());
            }
            let waited = ambient::elapsed().saturating_sub(begun);
            if waited > PATIENCE + HOPE {
                return Err(io::Error::other(format!("these do not die: {tools:?}")));
            }
            for tool in tools {
                let is_new = ended.insert(tool);
                if waited > PATIENCE {
                    signal(tool, Signal::KILL)?;
                } else if is_new {
                    signal(tool, Signal::TERM)?;
                }
            }
            ambient::sleep(LOOK).await;
            if HOUSEHOLD.get().is_some() {
                reap_orphans();
            }
        }
    }
}

/// Sends a signal to this very process, if it is there.
fn signal((pid, start_time): (u32, u64), signal: Signal) -> io::Result<()> {
    let process = ProcessIdentity { boot_id: platform::boot_id()?, pid, start_time };
    match Handle::open(&process)? {
        Some(handle) => handle.signal(signal),
        None => Ok(()),
    }
}

/// A process of the agent.
#[derive(Debug, Clone, Copy)]
struct Member {
    pid: u32,
    parent: u32,
    started: u64,
    /// Whether it leads a group, as the leader of a session does too.
    leads: bool,
}

/// The processes of an agent, itself included. In a reporter these are its tree; elsewhere, what
/// descends from the agent's first process.
fn members(agent: u32) -> io::Result<Vec<Member>> {
    let all = platform::processes()?;
    let pids = match HOUSEHOLD.get() {
        Some(house) => Tree::below(&house.job_id, house.cgroup.clone()).members()?,
        None => descendants(agent, &all),
    };
    let entries: BTreeMap<u32, &Entry> = all.iter().map(|it| (it.pid, it)).collect();
    let mut members = Vec::new();
    for pid in pids {
        // One that is gone by now is no member.
        let Some(&&Entry { parent, leads, .. }) = entries.get(&pid) else { continue };
        if let Some(started) = platform::start_time(pid)? {
            members.push(Member { pid, parent, started, leads });
        }
    }
    Ok(members)
}

fn descendants(root: u32, all: &[Entry]) -> Vec<u32> {
    let mut found = vec![root];
    let mut from = 0;
    while from < found.len() {
        let parent = found[from];
        found.extend(all.iter().filter(|it| it.parent == parent).map(|it| it.pid));
        from += 1;
    }
    found
}

/// The tools among the members: newcomers that lead, that were left by their parent, or whose
/// parent is one of those.
fn tools(agent: u32, known: &BTreeSet<(u32, u64)>, members: &[Member]) -> Vec<(u32, u64)> {
    let newcomers: BTreeMap<u32, &Member> = members
        .iter()
        .filter(|it| it.pid != agent && !known.contains(&(it.pid, it.started)))
        .map(|it| (it.pid, it))
        .collect();
    let is_here = |pid: u32| members.iter().any(|it| it.pid == pid);
    let is_tool = |member: &Member| {
        let mut member = member;
        // A table that was read while it changed may hold a circle.
        for _ in 0..=newcomers.len() {
            if member.leads || !is_here(member.parent) {
                return true;
            }
            match newcomers.get(&member.parent) {
                Some(parent) => member = parent,
                None => return false,
            }
        }
        false
    };
    newcomers.values().filter(|it| is_tool(it)).map(|it| (it.pid, it.started)).collect()
}

#[cfg(test)]
mod tests {
    use std::process::Stdio;

    use tokio::{
        io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
        process::{Child, Command},
    };

    use super::*;

    fn member(pid: u32, parent: u32, leads: bool) -> Member {
        Member { pid, parent, started: u64::from(pid), leads }
    }

    #[test]
    fn a_tool_is_what_leads_or_was_left_or_comes_from_such_a_one() {
        let known = BTreeSet::from([(1, 1), (2, 2)]);
        let members = [
            member(1, 0, true),
            member(2, 1, true),
            member(3, 2, true),
            member(4, 3, false),
            member(5, 2, false),
            member(6, 5, false),
            member(7, 99, false),
        ];
        assert_eq!(tools(1, &known, &members), [(3, 3), (4, 4), (7, 7)]);
    }

    #[test]
    fn a_number_that_comes_again_is_a_newcomer() {
        let known = BTreeSet::from([(1, 1), (2, 1)]);
        assert_eq!(tools(1, &known, &[member(1, 0, true), member(2, 1, true)]), [(2, 2)]);
    }

    #[test]
    fn a_circle_ends() {
        let known = BTreeSet::from([(1, 1)]);
        let members = [member(1, 0, true), member(2, 3, false), member(3, 2, false)];
        assert_eq!(tools(1, &known, &members), []);
    }

    /// An agent that does what it is told, line by line, and says so.
    struct Agent {
        child: Child,
        out: tokio::io::Lines<BufReader<tokio::process::ChildStdout>>,
    }

    impl Agent {
        fn start() -> Self {
            let mut child = Command::new("sh")
                .arg("-c")
                .arg("while read -r line; do eval \"$line\"; done")
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .process_group(0)
                .kill_on_drop(true)
                .spawn()
                .expect("a shell");
            let out = BufReader::new(child.stdout.take().expect("a pipe")).lines();
            Self { child, out }
        }

        fn pid(&self) -> u32 {
            self.child.id().expect("it lives")
        }

        /// Runs a command that prints the number of a process.
        async fn run(&mut self, command: &str) -> u32 {
            let input = self.child.stdin.as_mut().expect("a pipe");
            input.write_all(format!("{command}\n").as_bytes()).await.expect("it reads");
            let line = self.out.next_line().await.expect("it prints").expect("a line");
            line.parse().expect("a number")
        }
    }

    const STUBBORN: &str = "setsid sh -c 'trap \"\" TERM; sleep 60 & echo $$; wait; wait' &";

    #[tokio::test]
    async fn the_tools_of_a_turn_end_and_the_agent_and_its_helpers_stay() {
        let mut agent = Agent::start();
        let old = agent.run("setsid sh -c 'echo $$; exec sleep 60' &").await;
        let roster = Roster::of(agent.pid()).expect("a roster");
        let helper = agent.run("sleep 60 & echo $!").await;
        let tool = agent.run("setsid sh -c 'sleep 60 & echo $$; wait' &").await;
        let stubborn = agent.run(STUBBORN).await;

        let ended = roster.end_newcomers().await.expect("they die");
        assert_eq!(ended, 4, "two shells, and what they run");
        let lives = |pid| platform::start_time(pid).expect("/proc").is_some();
        assert!(!lives(tool) && !lives(stubborn));
        assert!(lives(old) && lives(helper) && lives(agent.pid()));
        for left in [old, helper] {
            platform::signal(left, Signal::KILL);
        }
    }

    #[tokio::test]
    async fn a_turn_without_tools_leaves_nothing_to_end() {
        let agent = Agent::start();
        let roster = Roster::of(agent.pid()).expect("a roster");
        assert_eq!(roster.end_newcomers().await.expect("nobody"), 0);
    }
}
