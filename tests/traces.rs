//! A lesson leaves nothing behind: not when it ends, not when it is killed, not when one of its
//! processes is, whatever its streams and its working directory are.
//!
//! Each test starts a worker for each program, one on each processor at a time: this same binary with
//! this one test, on a host of its own. There it is root, `/` is shared as systemd makes it, it has a
//! terminal, and nobody else changes anything. So every list must be the same after a run as before.
//! One test looks at the real host.
//!
//! Kills come at random moments: `TRACES_SEED=n` repeats those of a run that failed. There are as
//! many as fit the time, and a test says how many. With `TRACES=full` all fit, and that takes hours;
//! with `TRACES=short` there are two of each.

mod census;
mod host;
mod lessons;
mod normal;

use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::hash::{BuildHasher as _, DefaultHasher, Hash as _, Hasher as _, RandomState};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use std::{env, iter, process, thread};

use census::{Census, Pidfd, WORKER, children_of, descendants_of, ready_within};
use host::User;
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{SigHandler, Signal, signal};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::{Pid, getpgrp, getpid, tcsetpgrp};

const SIGNALS: [Signal; 4] = [Signal::SIGKILL, Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP];
/// Long enough for a slow machine: only a test that fails waits for it.
const DEADLINE: Duration = Duration::from_secs(5);
/// The same for a program to end by itself: fifty of them boot a Linux at once.
const END: Duration = Duration::from_secs(600);
/// How often we look.
const A_WHILE: Duration = Duration::from_millis(20);
/// How many moments are tried of a lesson; with `TRACES=full` of each signal and user.
const MOMENTS: usize = 200;
const COPIES: usize = 50;
const WORKBOOK: &str = "workbook";
const NOTHING: [&str; 0] = [];
/// How a line begins that the reader of a test that passes shall see.
const TOLD: &str = "traces: ";

/// What the random moments depend on.
static SEED: LazyLock<u64> = LazyLock::new(|| {
    let given = env::var("TRACES_SEED").map(|seed| seed.parse().expect("a number"));
    given.unwrap_or_else(|_| RandomState::new().build_hasher().finish())
});
static FULL: LazyLock<bool> = LazyLock::new(|| *ENOUGH == Duration::MAX);
/// For a series of runs of one program: of a slow one they are fewer.
static ENOUGH: LazyLock<Duration> = LazyLock::new(|| match env::var("TRACES").as_deref() {
    Ok("full") => Duration::MAX,
    Ok("short") => Duration::ZERO,
    Ok(other) => panic!("TRACES={other}: full or short"),
    Err(_) => Duration::from_secs(1),
});

/// Runs a check of each of these programs in a worker; in a worker, of its program.
fn in_workers(programs: fn() -> Vec<String>, check: impl Fn(&Turn, &str)) {
    if let Ok(program) = env::var(WORKER) {
        let (turn, rules) = (Turn::take(), census::rules());
        check(&turn, &program);
        return assert_eq!(census::rules(), rules, "{program}");
    }
    let _others_wait = census::turn();
    let test = thread::current().name().expect("that of the test").to_string();
    // The workbook runs every lesson, and a cgroup is the whole host's: nobody else looks meanwhile.
    let (alone, together): (Vec<_>, Vec<_>) =
        programs().into_iter().partition(|program| program == WORKBOOK);
    let failed: Vec<_> = alone.iter().flat_map(|program| work_for(&test, program).err()).collect();
    let (queue, failed) = (Mutex::new(together.into_iter()), Mutex::new(failed));
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
    let work = || {
        for program in iter::from_fn(next) {
            if let Err(said) = work_for(&test, &program) {
                failed.lock().unwrap_or_else(PoisonError::into_inner).push(said);
            }
        }
    };
    thread::scope(|scope| {
        let workers = thread::available_parallelism().map_or(1, usize::from);
        (0..workers).for_each(|_| drop(scope.spawn(work)));
    });
    let failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
    assert!(failed.is_empty(), "TRACES_SEED={} repeats this:\n{}", *SEED, failed.join("\n"));
}

/// A worker, from its start to its end: what it says when it fails.
fn work_for(test: &str, program: &str) -> Result<(), String> {
    let mut worker = Command::new(env::current_exe().expect("the tests are a program"));
    worker.args([test, "--exact", "--nocapture"]);
    worker.env(WORKER, program).env("TRACES_SEED", SEED.to_string());
    host::run_as_root_of_a_shared_host(&mut worker);
    // SAFETY: between fork and exec it makes one system call.
    unsafe { worker.pre_exec(|| Ok(set_pdeathsig(Signal::SIGKILL)?)) };
    let output = worker.output().expect("it starts");
    let said = String::from_utf8_lossy(&output.stdout);
    for line in said.lines().filter(|line| line.starts_with(TOLD)) {
        // Not by println!, which is for the readers of a test that fails.
        writeln!(io::stdout(), "{line}").expect("an open output");
    }
    match output.status.success() {
        true => Ok(()),
        false => {
            Err(format!("{}\n{said}{}", output.status, String::from_utf8_lossy(&output.stderr)))
        }
    }
}

/// One test's turn, and the folder that is the working, home and temporary directory of its runs.
struct Turn {
    folder: PathBuf,
    before: Census,
    terminal: Option<File>,
    _others_wait: MutexGuard<'static, ()>,
}

impl Turn {
    fn take() -> Self {
        let others_wait = census::turn();
        let folder = env::temp_dir().join(format!("traces-{}", process::id()));
        let _ = fs::remove_dir_all(&folder); // of a worker of that number that was killed
        fs::create_dir(&folder).expect("a new temporary directory");
        let terminal = census::on_a_host_of_our_own().then(census::terminal_of_our_own);
        Self { before: Census::take(&folder), folder, terminal, _others_wait: others_wait }
    }

    fn command(&self, program: &str, arguments: &[impl AsRef<OsStr>], user: User) -> Command {
        let mut command = lessons::command(program);
        command.args(arguments).stdin(Stdio::piped());
        self.prepare(command, user)
    }

    /// A program that a shell becomes, having changed what it was given.
    fn through_sh(&self, script: &str, program: &str, user: User) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]).arg(lessons::program(program)).stdin(Stdio::null());
        self.prepare(command, user)
    }

    fn prepare(&self, mut command: Command, user: User) -> Command {
        command.current_dir(&self.folder).env("HOME", &self.folder).env("TMPDIR", &self.folder);
        command.env("SHELL", "/bin/sh").stdout(Stdio::piped()).stderr(Stdio::piped());
        // nohup(1), or a shell that has us in the background, makes us ignore some of them.
        let heed = || {
            let heeded = SIGNALS.into_iter().filter(|s| *s != Signal::SIGKILL);
            for heeded in heeded.chain([Signal::SIGTTOU]) {
                // SAFETY: installs no handler.
                unsafe { signal(heeded, SigHandler::SigDfl) }?;
            }
            Ok(())
        };
        // SAFETY: between fork and exec it makes system calls only.
        unsafe { command.pre_exec(heed) };
        host::run_as(&mut command, user);
        command
    }

    fn type_on_terminal(&self, text: &str) {
        let mut terminal = self.terminal.as_ref().expect("a worker has one");
        terminal.write_all(text.as_bytes()).expect("it takes a line");
    }

    /// Runs it, lets `meddle` meddle, waits until it has ended, and looks for traces.
    fn run(&self, command: Command, what: &str, meddle: impl FnOnce(&mut Run)) -> End {
        self.run_all(vec![command], what, |runs| meddle(&mut runs[0])).remove(0)
    }

    fn run_all(
        &self,
        commands: Vec<Command>,
        what: &str,
        meddle: impl FnOnce(&mut [Run]),
    ) -> Vec<End> {
        let mut runs: Vec<_> = commands.into_iter().map(|c| Run::start(c, what)).collect();
        meddle(&mut runs);
        // Who ends well has waited for its children: then there is nothing left to wait for.
        let ours: Vec<_> = runs.iter().map(|run| pid(&run.child)).collect();
        let well: Vec<_> = runs.iter_mut().map(|run| run.end(&ours)).collect();
        let deadline = if well.contains(&false) { DEADLINE } else { Duration::ZERO };
        self.before.assert_same_within(deadline, &runs[0].what);
        runs.into_iter().map(Run::printed).collect()
    }
}

impl Drop for Turn {
    /// A test that fails leaves nothing to the next.
    fn drop(&mut self) {
        census::processes_left(Duration::ZERO);
        let _ = fs::remove_dir_all(&self.folder); // should it stay, the next test says so
    }
}

/// A terminal that is our own, for a program to read from.
fn terminal() -> File {
    File::options().read(true).write(true).open("/dev/tty").expect("a worker has one")
}

/// A program that runs, and what it has printed so far.
struct Run {
    what: String,
    child: Child,
    /// Not in `child`, whose wait() closes it: who waits for input shall be seen to be left.
    input: Option<ChildStdin>,
    pidfd: Pidfd,
    said: String,
    one_was_killed: bool,
}

impl Run {
    fn start(mut command: Command, what: &str) -> Self {
        let mut child = command.spawn().expect("the program starts");
        let pidfd = Pidfd::open(pid(&child)).expect("nobody has waited for it");
        let (what, input) = (what.to_string(), child.stdin.take());
        Self { what, child, input, pidfd, said: String::new(), one_was_killed: false }
    }

    /// Reads what it prints, until that is enough or there is no more.
    fn listen(&mut self, enough: impl Fn(&str) -> bool) {
        let Some(pipe) = self.child.stdout.as_mut() else { return };
        let mut bytes = [0; 4096];
        while !enough(&self.said) {
            assert!(ready_within(pipe, END), "{}: silent after\n{}", self.what, self.said);
            match pipe.read(&mut bytes).expect("what it prints") {
                0 => return,
                n => self.said += &String::from_utf8_lossy(&bytes[..n]),
            }
        }
    }

    fn type_in(&mut self, text: &str) {
        let input = self.input.as_mut().expect("an open input");
        let _ = input.write_all(text.as_bytes()); // it may have ended, and not read that
    }

    fn close_input(&mut self) {
        self.input = None;
    }

    /// Kills one of all the processes below it, if there is one now.
    fn kill_one_below(&mut self, dice: u64) {
        let lesson = pid(&self.child);
        let all = descendants_of(lesson);
        let Some(one) = all.get(dice as usize % all.len().max(1)).copied() else { return };
        let Some(pidfd) = Pidfd::open(one) else { return };
        let name = fs::read_to_string(format!("/proc/{one}/stat")).unwrap_or_default();
        // Between the lines above another process may have got the number.
        if descendants_of(lesson).contains(&one) {
            pidfd.send(Signal::SIGKILL);
            let end = Instant::now() + DEADLINE;
            while !pidfd.ended_within(Duration::from_millis(1)) && has_files(one) {
                assert!(Instant::now() < end, "{}: SIGKILL does not end {name}", self.what);
            }
            self.one_was_killed = true;
            let name: Vec<_> = name.split(' ').take(4).collect();
            self.what += &format!(": {}, one of {}", name.join(" "), all.len());
        }
    }

    /// Waits for its end, and reaps what was left to us meanwhile, as PID 1 of the host would: the
    /// end of a namespace may wait for it. Did it go well?
    fn end(&mut self, ours: &[Pid]) -> bool {
        let end = Instant::now() + END;
        while !self.pidfd.ended_within(A_WHILE) {
            assert!(Instant::now() < end, "{}: still there after\n{}", self.what, self.said);
            for orphan in children_of(getpid()).iter().filter(|pid| !ours.contains(pid)) {
                waitpid(*orphan, Some(WaitPidFlag::WNOHANG)).expect("a child");
            }
        }
        let status = self.child.wait().expect("a child that has ended");
        if status.signal().is_some() && census::on_a_host_of_our_own() {
            tcsetpgrp(terminal(), getpgrp()).expect("what a reader's shell does then");
        }
        status.success() && !self.one_was_killed
    }

    /// Only when nothing is left: what is left would hold the pipes open.
    fn printed(mut self) -> End {
        self.listen(|_| false);
        let (status, mut stderr) = (self.child.wait().expect("its status"), String::new());
        let pipe = self.child.stderr.as_mut().expect("a pipe");
        pipe.read_to_string(&mut stderr).expect("what it says");
        let end = End { status, stderr, stdout: self.said.clone(), what: self.what.clone() };
        assert!(!end.stderr.contains("panicked"), "{end:?}");
        assert!(!end.stderr.contains("Broken pipe"), "{end:?}");
        end
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let _ = self.child.kill(); // if the test goes well, it has ended
        let _ = self.child.wait();
    }
}

/// What SIGKILL takes at once. PID 1 of a namespace may end much later: when the lesson has waited
/// for its other children there.
fn has_files(pid: Pid) -> bool {
    fs::read_dir(format!("/proc/{pid}/fd")).is_ok_and(|files| files.count() > 0)
}

fn pid(child: &Child) -> Pid {
    Pid::from_raw(child.id() as i32)
}

/// How a run ended.
#[derive(Debug)]
#[allow(dead_code)] // all of it is printed
struct End {
    what: String,
    status: ExitStatus,
    stdout: String,
    stderr: String,
}

impl End {
    fn was_killed_by(&self, signal: Signal) -> bool {
        self.status.signal() == Some(signal as i32)
    }

    /// By itself, and with a cause if it has not come to its end.
    fn assert_by_itself(&self) {
        assert!(matches!(self.status.code(), Some(0 | 69)), "{self:?}");
        assert!(!self.stdout.contains("FAILS"), "{self:?}");
        assert!(!self.stderr.contains("not known to this workbook"), "{self:?}");
        // CRIU waits for ever for those of its own processes that were killed.
        let in_time = !self.stderr.contains("no answer in time") || self.stderr.contains("criu");
        assert!(in_time, "{self:?}");
    }

    fn assert_code(&self, code: i32) {
        assert_eq!(self.status.code(), Some(code), "{self:?}");
    }
}

/// The lessons that run here, the slow ones first: those that start other programs.
fn lessons() -> Vec<String> {
    let mut lessons = lessons::here();
    lessons.sort_by_key(|lesson| !lessons::names_flag(lesson, "tool::find"));
    lessons
}

fn lessons_with_a_shell() -> Vec<String> {
    lessons().into_iter().filter(|lesson| lessons::has_shell(lesson)).collect()
}

/// These and the workbook, which runs them all.
fn programs() -> Vec<String> {
    iter::once(WORKBOOK.to_string()).chain(lessons()).collect()
}

/// Both kinds of user, if it is not the same to it who runs it.
fn users(program: &str) -> &'static [User] {
    let same = program == WORKBOOK || !lessons::makes_namespaces(program);
    if same { &[User::Root] } else { &[User::Root, User::Ordinary] }
}

/// Each way to run it, as each kind of user.
fn ways(program: &str) -> Vec<(Vec<String>, User)> {
    let words = |line: &str| line.split_whitespace().map(str::to_string).collect();
    let without = |control: Option<String>| control.map(|c| format!("--without={c}"));
    let ways: Vec<Vec<String>> = match program {
        WORKBOOK => ["", "run --all"].map(words).to_vec(),
        lesson => {
            lessons::runs(lesson).into_iter().map(|c| without(c).into_iter().collect()).collect()
        }
    };
    ways.into_iter()
        .flat_map(|way| users(program).iter().map(move |user| (way.clone(), *user)))
        .collect()
}

/// The same, and how long it takes.
fn lives(turn: &Turn, program: &str) -> Vec<(Vec<String>, User, Duration)> {
    let live = |(way, user): (Vec<String>, User)| {
        let time = |_| {
            let start = Instant::now();
            turn.run(turn.command(program, &way, user), &format!("{program} {way:?}"), |_| {});
            start.elapsed()
        };
        let first = time(());
        // One that is short may have been disturbed.
        let life = if first > *ENOUGH / 10 { first } else { first.min(time(())).min(time(())) };
        (way, user, life)
    };
    ways(program).into_iter().map(live).collect()
}

/// A random number for the nth of these.
fn dice(what: &str, nth: usize) -> u64 {
    let mut hasher = DefaultHasher::new();
    (*SEED, what, nth).hash(&mut hasher);
    hasher.finish()
}

/// A random moment of a life.
fn moment(dice: u64, life: Duration) -> Duration {
    life.mul_f64(f64::from(dice as u32) / f64::from(u32::MAX))
}

/// Does these, in a random order: as many as fit the time, two at least. Gives how many.
fn in_time<T>(what: &str, all: impl IntoIterator<Item = T>, mut each: impl FnMut(T)) -> usize {
    let mut all: Vec<_> = all.into_iter().enumerate().collect();
    all.sort_by_key(|(nth, _)| dice(what, *nth));
    let (start, many) = (Instant::now(), all.len());
    let mut done = 0;
    for (_, one) in all {
        if done >= 2 && !*FULL && start.elapsed() > *ENOUGH {
            break;
        }
        each(one);
        done += 1;
    }
    if done < many || *FULL {
        println!("{TOLD}{what}: {done} of {many}");
    }
    done
}

fn leaves_the_host_as_it_was(turn: &Turn, program: &str) {
    let more = if program == WORKBOOK { ["doctor", "claims"] } else { ["--help", "--list"] };
    let more = more.map(|option| (vec![option.to_string()], User::Ordinary));
    for (way, user) in ways(program).into_iter().chain(more) {
        let what = format!("{program} {way:?} as {user:?}");
        turn.run(turn.command(program, &way, user), &what, |_| {}).assert_by_itself();
    }
}

#[test]
fn a_run_leaves_the_host_as_it_was() {
    in_workers(programs, leaves_the_host_as_it_was);
}

/// The same on the real one.
#[test]
fn a_run_leaves_this_host_as_it_was() {
    let turn = Turn::take();
    programs().iter().for_each(|program| leaves_the_host_as_it_was(&turn, program));
}

#[test]
fn a_killed_program_leaves_nothing() {
    in_workers(programs, |turn, program| {
        let (lives, mut killed) = (lives(turn, program), 0);
        let many = if *FULL { MOMENTS * SIGNALS.len() * users(program).len() } else { MOMENTS };
        let done = in_time(&format!("{program}: killed at random moments"), 0..many, |nth| {
            let signal = SIGNALS[nth % SIGNALS.len()];
            let (way, user, life) = &lives[nth / SIGNALS.len() % lives.len()];
            let delay = moment(dice(program, nth), *life);
            let what = format!("{program} {way:?} as {user:?}, {signal} after {delay:?}");
            let mut command = turn.command(program, way, *user);
            command.stdin(terminal());
            let end = turn.run(command, &what, |run| {
                run.pidfd.ended_within(delay);
                run.pidfd.send(signal);
            });
            match end.was_killed_by(signal) {
                true => killed += 1,
                false => end.assert_by_itself(), // that was too late
            }
        });
        // Of few moments all may be.
        assert!(killed > 0 || done < 8, "{program}: each signal came too late");
    });
}

#[test]
fn a_lesson_one_of_whose_processes_is_killed_ends_by_itself() {
    in_workers(lessons, |turn, lesson| {
        let (lives, mut killed) = (lives(turn, lesson), 0);
        let many = if *FULL { MOMENTS * users(lesson).len() } else { MOMENTS };
        let what = format!("{lesson}: one inside killed at random moments");
        let done = in_time(&what, 0..many, |nth| {
            let (way, user, life) = &lives[nth % lives.len()];
            let dice = dice(lesson, nth);
            let delay = moment(dice, *life);
            let what = format!("{lesson} {way:?} as {user:?}, after {delay:?} SIGKILL");
            let end = turn.run(turn.command(lesson, way, *user), &what, |run| {
                run.pidfd.ended_within(delay);
                run.kill_one_below(dice >> 32);
                killed += usize::from(run.one_was_killed);
            });
            end.assert_by_itself();
        });
        let may_be_none = done < 8 || !lessons::has_shell(lesson);
        assert!(killed > 0 || may_be_none, "{lesson}: none was found");
    });
}

/// Before each observation the lesson stands still: these moments are exact.
#[test]
fn a_lesson_killed_while_it_waits_for_enter_leaves_nothing() {
    in_workers(lessons, |turn, lesson| {
        let mut moments = Vec::new();
        for (mut way, user) in ways(lesson) {
            way.push("--step".into());
            let whole = turn.run(turn.command(lesson, &way, user), lesson, Run::close_input);
            let steps = normal::observations(&whole.stdout);
            let each = (0..steps).flat_map(|step| [(step, true), (step, false)]);
            moments.extend(each.map(|(step, itself)| (way.clone(), user, step, itself)));
        }
        let (mut tried, mut killed) = (0, 0);
        in_time(&format!("{lesson}: killed at a step"), moments, |(way, user, steps, itself)| {
            let signal = if itself { SIGNALS[steps % SIGNALS.len()] } else { Signal::SIGKILL };
            let what = format!("{lesson} {way:?} as {user:?}, after step {steps} {signal}");
            let end = turn.run(turn.command(lesson, &way, user), &what, |run| {
                run.type_in(&"\n".repeat(steps));
                run.listen(|said| said.contains('\n') && normal::observations(said) == steps);
                if itself {
                    run.pidfd.send(signal);
                } else {
                    run.kill_one_below(dice(&what, steps));
                    run.close_input();
                    tried += 1;
                }
                killed += usize::from(run.one_was_killed);
            });
            match itself {
                true => assert!(end.was_killed_by(signal), "{end:?}"),
                false => end.assert_by_itself(),
            }
        });
        let expected = tried > 9 && lessons::has_shell(lesson);
        assert!(killed > 0 || !expected, "{lesson}: no process inside");
    });
}

/// Its child is held up before it asks for PR_SET_PDEATHSIG, so it does not die with its maker.
#[test]
fn a_level_killed_before_its_child_is_ready_is_missed_at_once() {
    in_workers(
        || lessons::here().into_iter().filter(|name| name == "nested-pid-demo").collect(),
        |turn, lesson| {
            if !host::has("strace") {
                return;
            }
            let delay = ["-f", "-qq", "-o", "/dev/null", "-e", "trace=prctl"];
            let at = "inject=prctl:delay_enter=300000:when=1"; // in microseconds
            for way in [&["--step"][..], &["--step", "--without=level-2"]] {
                let mut strace = Command::new("strace");
                strace.args(delay).args(["-e", at]).arg(lessons::program(lesson)).args(way);
                strace.stdin(Stdio::piped());
                let what = format!("{lesson} {way:?}, its second level");
                let end = turn.run(turn.prepare(strace, User::Root), &what, |run| {
                    run.type_in(&"\n".repeat(5));
                    run.listen(|said| normal::observations(said) == 5);
                    let all = descendants_of(pid(&run.child)); // who is below comes first
                    let [_third, second, _first, _lesson] = all[..] else { panic!("{all:?}") };
                    Pidfd::open(second).expect("it waits").send(Signal::SIGKILL);
                    run.one_was_killed = true;
                    run.close_input();
                });
                assert_eq!(end.status.code(), Some(69), "{end:?}");
                end.assert_by_itself();
            }
        },
    );
}

#[test]
fn a_killed_lesson_takes_its_shell_along() {
    in_workers(lessons_with_a_shell, |turn, lesson| {
        for (user, signal) in users(lesson).iter().flat_map(|user| SIGNALS.map(|s| (*user, s))) {
            let what = format!("{lesson} --shell as {user:?}, {signal}");
            let mut command = turn.command(lesson, &["--shell"], user);
            command.stdin(terminal());
            let end = turn.run(command, &what, |run| {
                turn.type_on_terminal("echo this is $0\n");
                run.listen(|said| said.contains("this is /bin/sh"));
                run.pidfd.send(signal);
                if signal == Signal::SIGINT {
                    // That is Ctrl-C, and meant for the shell, which may do with its terminal what
                    // it likes.
                    turn.type_on_terminal("echo still $0; stty raw -echo; exit\n");
                    run.listen(|said| said.contains("still /bin/sh"));
                }
            });
            match signal {
                Signal::SIGINT => end.assert_code(0),
                _ => assert!(end.was_killed_by(signal), "{end:?}"),
            }
        }
    });
}

#[test]
fn a_reader_who_has_seen_enough_ends_the_lesson() {
    let head = |run: &mut Run| {
        run.listen(|said| said.contains('\n'));
        run.child.stdout = None;
    };
    in_workers(lessons, |turn, lesson| {
        for user in users(lesson) {
            let what = format!("{lesson} | head -1 as {user:?}");
            let end = turn.run(turn.command(lesson, &NOTHING, *user), &what, head);
            assert!(end.was_killed_by(Signal::SIGPIPE) || end.status.success(), "{end:?}");
            // Until Enter there is only the first line: now the pipe is surely closed too early.
            let end = turn.run(turn.command(lesson, &["--step"], *user), &what, |run| {
                head(run);
                run.close_input();
            });
            assert!(end.was_killed_by(Signal::SIGPIPE), "{end:?}");
        }
    });
}

/// As in a classroom on one server.
#[test]
fn fifty_copies_at_once_do_not_disturb_each_other() {
    in_workers(lessons, |turn, lesson| {
        let (claims, (_, _, life)) = (lessons::claims(lesson).len(), lives(turn, lesson).remove(0));
        let fit = (5.0 * ENOUGH.as_secs_f64() / life.as_secs_f64()) as usize; // one after the other
        let many = if *FULL { COPIES } else { fit.clamp(2, COPIES) };
        if many < COPIES || *FULL {
            println!("{TOLD}{lesson}: copies at once: {many} of {COPIES}");
        }
        let all = users(lesson).iter().cycle().take(many);
        let all = all.map(|user| turn.command(lesson, &NOTHING, *user)).collect();
        for end in turn.run_all(all, &format!("{many} times {lesson}"), |_| {}) {
            end.assert_code(0);
            // What this host cannot check stays open, however many run.
            let fine = |line: &&str| line.starts_with("holds  ") || line.starts_with("open   ");
            assert_eq!(end.stdout.lines().filter(fine).count(), claims, "{end:?}");
        }
    });
}

#[test]
fn a_lesson_that_cannot_print_leaves_nothing() {
    in_workers(lessons, |turn, lesson| {
        let all = ["full disk", "<&-", ">&-", "2>&-", "<&- >&- 2>&-", "--step <&-"];
        let all = users(lesson).iter().flat_map(|user| all.map(|how| (*user, how)));
        in_time(&format!("{lesson}: streams"), all, |(user, how)| {
            let what = format!("{lesson} {how} as {user:?}");
            if how == "full disk" {
                let full = File::options().write(true).open("/dev/full").expect("/dev/full");
                let mut command = turn.command(lesson, &NOTHING, user);
                command.stdout(full);
                let end = turn.run(command, &what, |_| {});
                end.assert_code(69);
                assert!(end.stderr.contains("ENOSPC"), "{end:?}");
            } else {
                let script = format!("exec \"$0\" {how}");
                turn.run(turn.through_sh(&script, lesson, user), &what, |_| {}).assert_code(0);
            }
        });
    });
}

#[test]
fn a_lesson_needs_nothing_of_its_working_directory() {
    in_workers(lessons, |turn, lesson| {
        let all = [
            (0o755, r#"mkdir gone && cd gone && rmdir ../gone && exec "$0""#),
            (0o755, r#"cd /proc && exec "$0""#), // where not even root can make a file
            (0o555, r#"exec "$0""#),
        ];
        let all = users(lesson).iter().flat_map(|user| all.map(|(mode, how)| (*user, mode, how)));
        in_time(&format!("{lesson}: working directories"), all, |(user, mode, script)| {
            let mode = Permissions::from_mode(mode);
            fs::set_permissions(&turn.folder, mode).expect("a folder of our own");
            let what = format!("{lesson} as {user:?} by {script}");
            turn.run(turn.through_sh(script, lesson, user), &what, |_| {}).assert_code(0);
        });
    });
}
