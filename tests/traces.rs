//! A lesson leaves nothing behind: not when it ends, not when it is killed, whatever its streams
//! and its working directory are.
//!
//! Some kills come at random moments: `TRACES_SEED=n` repeats those of a run that failed.

mod census;
mod host;
mod lessons;
mod normal;

use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::hash::{BuildHasher as _, DefaultHasher, Hash as _, Hasher as _, RandomState};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::sync::{LazyLock, MutexGuard};
use std::time::{Duration, Instant};
use std::{env, process};

use census::{Census, Pidfd, children_of, ready_within};
use host::User;
use nix::sys::signal::{SigHandler, Signal, signal};
use nix::unistd::Pid;

const SIGNALS: [Signal; 4] = [Signal::SIGKILL, Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP];
/// Long enough for a slow machine: only a test that fails waits for it.
const DEADLINE: Duration = Duration::from_secs(5);
/// The same for a program to end by itself: some boot a Linux, ten at once.
const END: Duration = Duration::from_secs(120);
/// For the runs of one lesson in one test: slow lessons are run less often.
const ENOUGH: Duration = Duration::from_secs(4);
const NOTHING: [&str; 0] = [];

/// One test's turn, and the folder that is the working, home and temporary directory of its runs.
struct Turn {
    folder: PathBuf,
    _others_wait: MutexGuard<'static, ()>,
}

impl Turn {
    fn take() -> Self {
        let others_wait = census::turn();
        let folder = env::temp_dir().join(format!("traces-{}", process::id()));
        fs::create_dir(&folder).expect("a new temporary directory");
        Self { folder, _others_wait: others_wait }
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
            for heeded in SIGNALS.into_iter().filter(|s| *s != Signal::SIGKILL) {
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

    /// Runs it, lets `meddle` meddle, waits until it has ended, and looks for traces.
    fn run(&self, command: Command, what: &str, meddle: impl FnOnce(&mut Run)) -> Output {
        self.run_all(vec![command], what, |runs| meddle(&mut runs[0])).remove(0)
    }

    fn run_all(
        &self,
        commands: Vec<Command>,
        what: &str,
        meddle: impl FnOnce(&mut [Run]),
    ) -> Vec<Output> {
        let before = Census::take(&self.folder);
        let mut runs: Vec<_> = commands.into_iter().map(Run::start).collect();
        meddle(&mut runs);
        // Who ends well has waited for its children: then there is nothing left to wait for.
        let well: Vec<_> = runs.iter_mut().map(|run| run.end(what)).collect();
        let deadline = if well.contains(&false) { DEADLINE } else { Duration::ZERO };
        before.assert_same_within(deadline, what);
        runs.into_iter().map(|run| run.output(what)).collect()
    }
}

impl Drop for Turn {
    /// A test that fails leaves nothing to the next.
    fn drop(&mut self) {
        census::processes_left(Duration::ZERO);
        let _ = fs::remove_dir_all(&self.folder); // should it stay, the next test says so
    }
}

/// A program that runs, and what it has printed so far.
struct Run {
    child: Child,
    /// Not in `child`, whose wait() closes it: who waits for input shall be seen to be left.
    input: Option<ChildStdin>,
    pidfd: Pidfd,
    said: String,
    inside_was_killed: bool,
}

impl Run {
    fn start(mut command: Command) -> Self {
        let mut child = command.spawn().expect("the program starts");
        let pidfd = Pidfd::open(pid(&child)).expect("nobody has waited for it");
        let input = child.stdin.take();
        Self { child, input, pidfd, said: String::new(), inside_was_killed: false }
    }

    /// Reads what it prints, until that is enough or there is no more.
    fn listen(&mut self, enough: impl Fn(&str) -> bool) {
        let Some(pipe) = self.child.stdout.as_mut() else { return };
        let mut bytes = [0; 4096];
        while !enough(&self.said) {
            assert!(ready_within(pipe, END), "it is silent after\n{}", self.said);
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

    /// Kills the process inside, if there is one now.
    fn kill_inside(&mut self) {
        let outside = pid(&self.child);
        let Some(inside) = children_of(outside).first().copied() else { return };
        let Some(pidfd) = Pidfd::open(inside) else { return };
        // Between the two lines above another process may have got the number.
        if children_of(outside).contains(&inside) {
            pidfd.send(Signal::SIGKILL);
            let end = Instant::now() + DEADLINE;
            while !pidfd.ended_within(Duration::from_millis(1)) && has_files(inside) {
                assert!(Instant::now() < end, "SIGKILL ends it");
            }
            self.inside_was_killed = true;
        }
    }

    /// Waits for its end. Did it go well?
    fn end(&mut self, what: &str) -> bool {
        assert!(self.pidfd.ended_within(END), "{what}: still there after\n{}", self.said);
        let status = self.child.wait().expect("a child that has ended");
        status.success() && !self.inside_was_killed
    }

    /// Only when nothing is left: what is left would hold the pipes open.
    fn output(mut self, what: &str) -> Output {
        self.listen(|_| false);
        let (status, mut stderr) = (self.child.wait().expect("its status"), Vec::new());
        let pipe = self.child.stderr.as_mut().expect("a pipe");
        pipe.read_to_end(&mut stderr).expect("what it says");
        let said = String::from_utf8_lossy(&stderr);
        assert!(!said.contains("panicked") && !said.contains("Broken pipe"), "{what}: {said}");
        Output { status, stdout: self.said.clone().into_bytes(), stderr }
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

/// Every lesson as each kind of user, if it is not the same to it who runs it.
fn each() -> Vec<(String, User)> {
    let users = [User::Root, User::Ordinary];
    lessons::here()
        .into_iter()
        .flat_map(|lesson| users.map(|user| (lesson.clone(), user)))
        .filter(|(lesson, user)| *user == User::Root || lessons::makes_namespaces(lesson))
        .collect()
}

/// Those that have something to stand in, and so a process inside.
fn each_with_a_shell() -> Vec<(String, User)> {
    each().into_iter().filter(|(lesson, _)| lessons::has_shell(lesson)).collect()
}

/// The options of each way to run a lesson.
fn ways(lesson: &str) -> Vec<Vec<String>> {
    let without = |control| format!("--without={control}");
    let controls = lessons::runs(lesson).into_iter();
    controls.map(|control| control.map(without).into_iter().collect()).collect()
}

/// 1 if the signal ended it, 0 if that was too late and it had ended well.
fn killed_or_well(output: &Output, signal: Signal, what: &str) -> usize {
    let killed = output.status.signal() == Some(signal as i32);
    assert!(killed || output.status.success(), "{what}: {output:?}");
    usize::from(killed)
}

fn ended_by_itself(output: &Output, what: &str) {
    assert!(matches!(output.status.code(), Some(0 | 69)), "{what}: {output:?}");
}

/// What the random moments depend on.
static SEED: LazyLock<u64> = LazyLock::new(|| {
    let given = env::var("TRACES_SEED").map(|seed| seed.parse().expect("a number"));
    given.unwrap_or_else(|_| RandomState::new().build_hasher().finish())
});

/// How long a program usually runs here.
fn life(turn: &Turn, program: &str, arguments: &[impl AsRef<OsStr>], user: User) -> Duration {
    println!("{program}: TRACES_SEED={}", *SEED);
    let mut times = [Duration::ZERO; 5];
    for time in &mut times {
        turn.run(turn.command(program, arguments, user), program, |run| {
            let start = Instant::now();
            run.pidfd.ended_within(END);
            *time = start.elapsed();
        });
    }
    times.sort();
    times[2]
}

/// How many such lives are enough, of this many.
fn times(wanted: usize, life: Duration) -> usize {
    let possible = ENOUGH.as_secs_f64() / life.as_secs_f64();
    wanted.min(possible as usize).max(2)
}

/// The nth random moment of a life.
fn moment(nth: usize, life: Duration) -> Duration {
    let mut hasher = DefaultHasher::new();
    (*SEED, nth).hash(&mut hasher);
    life.mul_f64(f64::from(hasher.finish() as u32) / f64::from(u32::MAX))
}

#[test]
fn a_run_leaves_the_host_as_it_was() {
    let turn = Turn::take();
    let mut runs: Vec<(&str, Vec<String>)> = Vec::new();
    for line in ["", "--help", "run --all", "claims", "man"] {
        runs.push(("workbook", line.split_whitespace().map(String::from).collect()));
    }
    let names = lessons::here();
    for lesson in &names {
        let other = ["--help", "--list"].map(|option| vec![option.to_string()]);
        runs.extend(ways(lesson).into_iter().chain(other).map(|way| (lesson.as_str(), way)));
    }
    for (program, arguments) in runs {
        for user in [User::Root, User::Ordinary] {
            let what = format!("{program} {arguments:?} as {user:?}");
            let output = turn.run(turn.command(program, &arguments, user), &what, |_| {});
            ended_by_itself(&output, &what);
        }
    }
}

/// Under systemd `/` is shared, and what is mounted inside comes out if one lets it. So once more
/// on such a host, where a lesson as root has every right to change it.
#[test]
fn it_is_the_same_where_the_root_is_shared() {
    let _turn = Turn::take();
    let mut tests = Command::new(env::current_exe().expect("the tests are a program"));
    tests.args(["--test-threads=1", "a_run_leaves", "a_killed_lesson"]);
    let output = host::run_as_root_of_a_shared_host(&mut tests).output().expect("it starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn a_killed_lesson_leaves_nothing() {
    let turn = Turn::take();
    for (lesson, user) in each() {
        let plain = turn.run(turn.command(&lesson, &NOTHING, user), &lesson, |_| {});
        let lines = String::from_utf8_lossy(&plain.stdout).lines().count();
        let life = life(&turn, &lesson, &NOTHING, user);
        for (which, signal) in SIGNALS.into_iter().enumerate() {
            let mut killed = 0;
            // After each line come two of the signals, and then some at random moments.
            let moments = (1..=times(lines + 8, life)).filter(|nth| (nth + which) % 2 == 0);
            for (nth, way) in moments.zip(ways(&lesson).iter().cycle()) {
                let delay = (nth > lines).then(|| moment(nth, life));
                let when = delay.map_or(format!("line {nth}"), |delay| format!("{delay:?}"));
                let what = format!("{lesson} {way:?} as {user:?}, {signal} after {when}");
                let output = turn.run(turn.command(&lesson, way, user), &what, |run| {
                    match delay {
                        None => run.listen(|said| said.lines().count() >= nth),
                        Some(delay) => drop(run.pidfd.ended_within(delay)),
                    }
                    run.pidfd.send(signal);
                });
                killed += killed_or_well(&output, signal, &what);
            }
            assert!(killed > 0, "{lesson} as {user:?}: each {signal} came too late");
        }
    }
}

#[test]
fn a_killed_workbook_leaves_nothing() {
    let turn = Turn::take();
    for arguments in [&[][..], &["run", "--all"], &["claims"]] {
        let life = life(&turn, "workbook", arguments, User::Ordinary);
        for (nth, user) in
            (1..=times(20, life)).zip([User::Root, User::Ordinary].into_iter().cycle())
        {
            let delay = moment(nth, life);
            let what = format!("workbook {arguments:?} as {user:?}, killed after {delay:?}");
            let output = turn.run(turn.command("workbook", arguments, user), &what, |run| {
                run.pidfd.ended_within(delay);
                run.pidfd.send(Signal::SIGKILL);
            });
            let ended = matches!(output.status.code(), Some(0 | 69));
            let killed = output.status.signal() == Some(Signal::SIGKILL as i32);
            assert!(ended || killed, "{what}: {output:?}");
        }
    }
}

#[test]
fn a_lesson_whose_inside_is_killed_ends_by_itself() {
    let turn = Turn::take();
    for (lesson, user) in each_with_a_shell() {
        let life = life(&turn, &lesson, &NOTHING, user);
        let mut killed = 0;
        for nth in 1..=times(40, life) {
            let delay = moment(nth, life);
            let what = format!("{lesson} as {user:?}, inside killed after {delay:?}");
            let output = turn.run(turn.command(&lesson, &NOTHING, user), &what, |run| {
                run.pidfd.ended_within(delay);
                run.kill_inside();
                killed += usize::from(run.inside_was_killed);
            });
            ended_by_itself(&output, &what);
        }
        assert!(killed > 0, "{lesson} as {user:?}: no process inside was found");
    }
}

/// Before each observation the lesson stands still: these moments are exact.
#[test]
fn a_lesson_killed_while_it_waits_for_enter_leaves_nothing() {
    let turn = Turn::take();
    for (lesson, user) in each() {
        for mut way in ways(&lesson) {
            way.push("--step".into());
            // Runs it until it stands before the next observation, and then meddles.
            let step = |steps: usize, how: &str, meddle: &mut dyn FnMut(&mut Run)| {
                let what = format!("{lesson} {way:?} as {user:?}, after step {steps} {how}");
                let output = turn.run(turn.command(&lesson, &way, user), &what, |run| {
                    run.type_in(&"\n".repeat(steps));
                    run.listen(|said| said.contains('\n') && normal::observations(said) == steps);
                    meddle(run);
                });
                (output, what)
            };
            let start = Instant::now();
            let (whole, _) = step(0, "let go", &mut Run::close_input);
            let steps = normal::observations(&String::from_utf8_lossy(&whole.stdout));
            let mut killed_inside = 0;
            // All of them, or of a slow lesson some here and there.
            let rounds = times(steps, start.elapsed());
            for steps in (0..rounds).map(|round| round * steps / rounds) {
                let signal = SIGNALS[steps % SIGNALS.len()];
                let how = format!("{signal}");
                let (output, what) = step(steps, &how, &mut |run| run.pidfd.send(signal));
                assert_eq!(output.status.signal(), Some(signal as i32), "{what}: {output:?}");
                let (output, what) = step(steps, "inside killed", &mut |run| {
                    run.kill_inside();
                    killed_inside += usize::from(run.inside_was_killed);
                    run.close_input();
                });
                ended_by_itself(&output, &what);
            }
            let may_be_without = !lessons::has_shell(&lesson);
            assert!(may_be_without || killed_inside > 0, "{lesson} {way:?}: no process inside");
        }
    }
}

#[test]
fn a_killed_lesson_takes_its_shell_along() {
    let turn = Turn::take();
    for (lesson, user) in each_with_a_shell() {
        for signal in SIGNALS {
            let what = format!("{lesson} --shell as {user:?}, {signal}");
            let output = turn.run(turn.command(&lesson, &["--shell"], user), &what, |run| {
                run.type_in("echo this is $0\n");
                run.listen(|said| said.contains("this is /bin/sh"));
                run.pidfd.send(signal);
                if signal == Signal::SIGINT {
                    // That is Ctrl-C, and meant for the shell.
                    run.type_in("echo still $0\n");
                    run.listen(|said| said.contains("still /bin/sh"));
                    run.close_input();
                }
            });
            let expected = (signal != Signal::SIGINT).then_some(signal as i32);
            assert_eq!(output.status.signal(), expected, "{what}: {output:?}");
        }
    }
}

#[test]
fn a_reader_who_has_seen_enough_ends_the_lesson() {
    let turn = Turn::take();
    let head = |run: &mut Run| {
        run.listen(|said| said.contains('\n'));
        run.child.stdout = None;
    };
    for (lesson, user) in each() {
        let what = format!("{lesson} | head -1 as {user:?}");
        let output = turn.run(turn.command(&lesson, &NOTHING, user), &what, head);
        killed_or_well(&output, Signal::SIGPIPE, &what);
        // Until Enter there is only the first line: now the pipe is surely closed too early.
        let output = turn.run(turn.command(&lesson, &["--step"], user), &what, |run| {
            head(run);
            run.close_input();
        });
        assert_eq!(output.status.signal(), Some(Signal::SIGPIPE as i32), "{what}: {output:?}");
    }
}

#[test]
fn ten_copies_at_once_do_not_disturb_each_other() {
    let turn = Turn::take();
    for (lesson, user) in each() {
        let copies = (0..10).map(|_| turn.command(&lesson, &NOTHING, user)).collect();
        for output in turn.run_all(copies, &format!("ten times {lesson} as {user:?}"), |_| {}) {
            assert_eq!(output.status.code(), Some(0), "{lesson}: {output:?}");
            let said = String::from_utf8_lossy(&output.stdout);
            // What this host cannot check stays open, however many run.
            let fine = |line: &&str| line.starts_with("holds  ") || line.starts_with("open   ");
            let claims = lessons::claims(&lesson).len();
            assert_eq!(said.lines().filter(fine).count(), claims, "{lesson}: {said}");
        }
    }
}

#[test]
fn a_lesson_that_cannot_print_leaves_nothing() {
    let turn = Turn::take();
    for (lesson, user) in each() {
        let full = File::options().write(true).open("/dev/full").expect("/dev/full");
        let mut command = turn.command(&lesson, &NOTHING, user);
        command.stdout(full);
        let output = turn.run(command, &format!("{lesson} > /dev/full"), |_| {});
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(69), "{lesson}: {said}");
        assert!(said.contains("ENOSPC"), "{lesson}: {said}");

        for closed in ["<&-", ">&-", "2>&-", "<&- >&- 2>&-", "--step <&-"] {
            let what = format!("{lesson} {closed} as {user:?}");
            let script = format!("exec \"$0\" {closed}");
            let output = turn.run(turn.through_sh(&script, &lesson, user), &what, |_| {});
            assert_eq!(output.status.code(), Some(0), "{what}: {output:?}");
        }
    }
}

#[test]
fn a_lesson_needs_nothing_of_its_working_directory() {
    let turn = Turn::take();
    for (lesson, user) in each() {
        for (mode, script) in [
            (0o755, r#"mkdir gone && cd gone && rmdir ../gone && exec "$0""#),
            (0o755, r#"cd /proc && exec "$0""#), // where not even root can make a file
            (0o555, r#"exec "$0""#),
        ] {
            let mode = Permissions::from_mode(mode);
            fs::set_permissions(&turn.folder, mode).expect("a folder of our own");
            let what = format!("{lesson} as {user:?} by {script}");
            let output = turn.run(turn.through_sh(script, &lesson, user), &what, |_| {});
            assert_eq!(output.status.code(), Some(0), "{what}: {output:?}");
        }
    }
}
