//! Whatever is typed behind a program's name, it answers: exit 0, 2 or 69, soon, and no file is left.
//!
//! The arguments are random: `ARGUMENTS_SEED=n` repeats those of a run that failed.

mod census;
mod host;
mod lessons;

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{env, fs, process, thread};

use census::Census;
use nix::unistd::alarm;
use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, any, prop_oneof};
use proptest::sample::select;
use proptest::test_runner::{Config, RngSeed, TestCaseError, TestRunner};
use workbook::contents;

/// For all programs together; most end within milliseconds.
const RUNS: u32 = 2000;
/// What a program has for its answer, in seconds. Then SIGALRM ends it, which is no answer.
const DEADLINE: u32 = 10;

/// What the programs know, right or wrong where it stands.
const WORDS: &str = "--step --shell --list --without --without=newpid --help --version --all --json \
                     -h -V - -- --svg map 1 run claims completions man doctor help bash zsh fish elvish \
                     uts-demo pid-dmo newpid";
/// What a terminal would obey, and what is nobody's option.
const ODD: [&str; 8] = [
    "",
    " ",
    "\n",
    "\x1b[31m",
    "--without=\x1b]0;title\x07",
    "--\x1b[2J",
    "\u{9b}31m",
    "--läßt=\u{202e}",
];
/// Just under the longest argument that execve(2) takes, 32 pages.
const LONG: usize = 100_000;

fn argument() -> impl Strategy<Value = OsString> {
    let word = || select(WORDS.split(' ').collect::<Vec<_>>()).prop_map(OsString::from);
    let odd = select(&ODD[..]).prop_map(OsString::from);
    // Only a NUL cannot be in an argument: it is where the argument ends.
    let bytes = || vec(1..=u8::MAX, 0..20).prop_map(OsString::from_vec);
    let long = any::<char>().prop_map(|c| c.to_string().replace('\0', "x").repeat(LONG / 4).into());
    let both = (word(), Just("="), bytes()).prop_map(|(word, equals, value)| {
        [&word, OsStr::new(equals), &value].into_iter().collect::<OsString>()
    });
    prop_oneof![8 => word(), 2 => odd, 2 => bytes(), 2 => both, 1 => long]
}

/// A folder that is empty, and stays so.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let folder = env::temp_dir().join(format!("arguments-{}-{name}", process::id()));
        fs::create_dir(&folder).expect("a new folder");
        Self(folder)
    }

    fn is_empty(&self) -> bool {
        fs::read_dir(&self.0).expect("it is still there").next().is_none()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0); // to be tidy also when a test fails
    }
}

/// Does the program answer as it should?
fn answers(program: &str, arguments: &[OsString], folder: &Path) -> Result<(), TestCaseError> {
    let mut command = lessons::command(program);
    command.args(arguments).current_dir(folder).env("TMPDIR", folder);
    // Without tools, or the lessons that look at them would take seconds.
    command.env("PATH", folder);
    let in_time = || {
        alarm::set(DEADLINE);
        Ok(())
    };
    // SAFETY: between fork and exec it makes one system call.
    unsafe { command.pre_exec(in_time) };
    let output = command.output().expect("the program starts");
    let said = [output.stdout, output.stderr].concat();
    let text = || String::from_utf8_lossy(&said).chars().take(2000).collect::<String>();
    let answered = matches!(output.status.code(), Some(0 | 2 | 69));
    let wrong = match () {
        () if !answered => output.status.to_string(),
        () if said.contains(&0x1b) => "an escape sequence".to_string(),
        () => return Ok(()),
    };
    Err(TestCaseError::fail(format!("{wrong}\n{}", text())))
}

#[test]
fn every_program_answers_whatever_is_typed() {
    let _turn = census::turn();
    let before = Census::take(contents::root());
    let given = env::var("ARGUMENTS_SEED").map(|seed| seed.parse().expect("a number"));
    let seed: u64 = given.unwrap_or_else(|_| process::id().into());
    let threads = thread::available_parallelism().expect("a number").get();
    let share = |nth: usize| {
        let folder = Folder::new(&nth.to_string());
        let rng_seed = RngSeed::Fixed(seed + nth as u64);
        let cases = RUNS / threads as u32;
        let config = Config { cases, rng_seed, failure_persistence: None, ..Config::default() };
        let lesson = select(lessons::names());
        let program = prop_oneof![3 => lesson, 1 => Just("workbook".to_string())];
        let input = (program, vec(argument(), 0..5));
        let outcome = TestRunner::new(config)
            .run(&input, |(program, arguments)| answers(&program, &arguments, &folder.0));
        outcome.unwrap_or_else(|error| panic!("ARGUMENTS_SEED={seed} repeats it: {error}"));
        assert!(folder.is_empty(), "ARGUMENTS_SEED={seed} repeats it: a file is left");
    };
    thread::scope(|scope| {
        for nth in 0..threads {
            let share = &share;
            scope.spawn(move || share(nth));
        }
    });
    before.assert_same_within(Duration::ZERO, "whatever is typed");
}
