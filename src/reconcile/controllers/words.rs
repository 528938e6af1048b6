//! Condition types and reasons: words that scripts rely on, each in one place.

/// A Sprite has a slot of its runtime.
pub const ADMITTED: &str = "Admitted";
/// Somebody waits for the slot of a Sprite whose agent has nothing to do: it may sleep.
pub const SLOT_WANTED: &str = "SlotWanted";
/// A Sprite's process or machine was made.
pub const PROVISIONED: &str = "Provisioned";
/// The agent cannot see what is the server's.
pub const ISOLATED: &str = "Isolated";
/// It works, or can take a turn.
pub const READY: &str = "Ready";
/// A Sprite was told to end, or has ended and is to leave.
pub const STOPPING: &str = "Stopping";
/// No process or machine of the Sprite is left.
pub const GONE: &str = "Gone";
/// All that the Sprite said is held, or what is missing has been told.
pub const DRAINED: &str = "Drained";
/// It needs somebody.
pub const STALLED: &str = "Stalled";
/// An agent waits until somebody allows or forbids what it asks for.
pub const WAITING_FOR_APPROVAL: &str = "WaitingForApproval";
/// The agent asked.
pub const ASKED: &str = "Asked";
/// It is on its way to what is wanted.
pub const RECONCILING: &str = "Reconciling";
/// A Job will be complete once nothing of it runs.
pub const SUCCESS_CRITERIA_MET: &str = "SuccessCriteriaMet";
/// A Job will have failed once nothing of it runs.
pub const FAILURE_TARGET: &str = "FailureTarget";
/// A Job has ended well, and nothing of it runs.
pub const COMPLETE: &str = "Complete";
/// A Job has ended otherwise, and nothing of it runs.
pub const FAILED: &str = "Failed";

/// It has what it waited for.
pub const ADMITTED_REASON: &str = "SlotTaken";
/// All slots of the runtime are taken.
pub const WAITING: &str = "WaitingForSlot";
/// The runtime shows it.
pub const OBSERVED: &str = "Observed";
/// Nothing was ever started.
pub const NEVER_STARTED: &str = "NeverStarted";
/// The exit event is held.
pub const EXIT_HELD: &str = "ExitHeld";
/// The exit event may still come.
pub const AWAITING_EXIT: &str = "AwaitingExit";
/// The exit event did not come in time; the end of the output may be missing.
pub const OUTPUT_GAP: &str = "OutputGap";
/// Somebody wants it to end.
pub const STOP_ORDERED: &str = "StopOrdered";
/// It said that it has ended.
pub const ENDED: &str = "Ended";
/// The runtime cannot tell what there is.
pub const RUNTIME_UNKNOWN: &str = "RuntimeUnknown";
/// The runtime has no room for it now.
pub const NO_ROOM: &str = "NoRoom";
/// The runtime does not let us in.
pub const NO_ACCESS: &str = "NoAccess";
/// There is nothing that it could run in.
pub const NO_PLACE: &str = "NoPlace";
/// The account with the runtime may have no more.
pub const LIMIT_REACHED: &str = "LimitReached";
/// The runtime cannot be reached, or fails.
pub const UNREACHABLE: &str = "Unreachable";
/// Its machine hangs on its way from one state to another.
pub const MACHINE_STUCK: &str = "MachineStuck";
/// The reporter runs but has not said hello.
pub const NO_HELLO: &str = "NoHello";
/// It could not be started, and will not be by trying again.
pub const START_FAILED: &str = "StartFailed";
/// The server's data is hidden from the agent.
pub const DATA_HIDDEN: &str = "DataHidden";
/// The agent can do what its user can.
pub const NOT_CONTAINED: &str = "NotContained";
/// It is being started.
pub const STARTING: &str = "Starting";
/// The agent takes work.
pub const AGENT_READY: &str = "AgentReady";
/// A work directory holds something that nobody has taken; it was kept.
pub const KEPT_WORK: &str = "KeptWork";
/// A Job's attempt ended well.
pub const COMPLETED: &str = "Completed";
/// The agent failed.
pub const AGENT_FAILED: &str = "AgentFailed";
/// Its machine ran out of memory.
pub const OUT_OF_MEMORY: &str = "OutOfMemory";
/// Somebody cancelled it.
pub const CANCELLED: &str = "Cancelled";
/// An attempt took too long.
pub const TIMED_OUT: &str = "TimedOut";
/// The agent was silent for too long.
pub const IDLE_TIMED_OUT: &str = "IdleTimedOut";
/// All attempts together took too long.
pub const DEADLINE_EXCEEDED: &str = "DeadlineExceeded";
/// The repository or the work directory could not be had.
pub const WORKSPACE_FAILED: &str = "WorkspaceFailed";
/// The sprite was lost, again and again or in the middle of its work.
pub const SPRITE_LOST: &str = "SpriteLost";
/// A sprite was made.
pub const SPRITE_CREATED: &str = "SpriteCreated";
/// Somebody deleted the sprite.
pub const SPRITE_DELETED: &str = "SpriteDeleted";
/// A person suspended it.
pub const SUSPENDED: &str = "Suspended";
/// A new sprite takes over from the last one.
pub const REPLACING: &str = "Replacing";
/// The last sprite ended by itself; the next one waits a while.
pub const BACKING_OFF: &str = "BackingOff";
/// It is as it was wanted.
pub const SETTLED: &str = "Settled";
/// All secrets that its spec names are there.
pub const SECRETS_AVAILABLE: &str = "SecretsAvailable";
/// A secret that the spec names is not there.
pub const SECRET_MISSING: &str = "SecretMissing";
/// The secrets were there when it started.
pub const SECRETS_RESOLVED: &str = "Resolved";
/// A Sprite's last run has ended in order to sleep; another run will wake it.
pub const ASLEEP: &str = "Asleep";
/// It was told to sleep.
pub const SLEEP_ORDERED: &str = "SleepOrdered";
/// A turn waits, and the sprite is woken for it.
pub const WAKING: &str = "Waking";
/// An Agent has spent what it may; no turn begins until it may spend more.
pub const BUDGET_SPENT: &str = "BudgetSpent";
/// A turn runs.
pub const WORKING: &str = "Working";
/// The sprite ended for want of a server and of work; the next turn brings another.
pub const ABANDONED: &str = "Abandoned";
/// Members of a Fleet are on their way to what its template says.
pub const PROGRESSING: &str = "Progressing";
/// A Schedule waits for its next due minute.
pub const SCHEDULED: &str = "Scheduled";
/// A Job was made for a due minute.
pub const JOB_CREATED: &str = "JobCreated";
/// A Job was made because somebody asked for it.
pub const RUN_REQUESTED: &str = "RunRequested";
/// Due minutes passed while nobody looked.
pub const MISSED: &str = "MissedDueMinutes";
/// A due minute came too late to be begun.
pub const TOO_LATE: &str = "TooLate";
/// A due minute was skipped because the last Job still works.
pub const STILL_ACTIVE: &str = "StillActive";
/// The Jobs before it are cancelled, and a due minute waits for their end.
pub const REPLACING_JOBS: &str = "ReplacingJobs";
/// What is to be made has the name of something that belongs to others.
pub const NAME_TAKEN: &str = "NameTaken";
/// What is to be made may not be made on this server.
pub const NOT_ALLOWED: &str = "NotAllowed";
/// The schedule is never due, or its zone is not known here.
pub const BAD_SCHEDULE: &str = "BadSchedule";
/// The clock stands behind the last due minute that was begun.
pub const CLOCK_BEHIND: &str = "ClockBehind";
/// No members can be made from the template.
pub const BAD_TEMPLATE: &str = "BadTemplate";
/// The directories that members are made for are not known.
pub const NO_DIRECTORIES: &str = "NoDirectories";
/// More members would be deleted at once than may be, and somebody has to confirm.
pub const DELETIONS_HELD: &str = "DeletionsHeld";
/// A member does not work after it was changed, and no other is changed.
pub const MEMBER_FAILED: &str = "MemberFailed";
/// Members are made, changed or removed.
pub const ROLLING_OUT: &str = "RollingOut";
/// Members were made.
pub const MEMBERS_CREATED: &str = "MembersCreated";
/// A member was changed to what the template says now.
pub const MEMBER_UPDATED: &str = "MemberUpdated";
/// A member that somebody else had changed is again as the template says.
pub const PUT_RIGHT: &str = "PutRight";
/// A member that is not generated any more is deleted.
pub const MEMBER_PRUNED: &str = "MemberPruned";
/// All members are there, as the template says, and ready.
pub const ALL_READY: &str = "AllReady";
/// Members are not ready yet.
pub const NOT_READY: &str = "NotReady";
/// A Sprite is deleted, because its owner is gone and nobody else would end it.
pub const LEFT_BEHIND: &str = "LeftBehind";
