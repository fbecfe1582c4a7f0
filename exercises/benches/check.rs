//! How long the reader waits for the checker: for all steps of a program that has reached them, and
//! with `--watch` for an answer after a save.
//!
//! `cargo bench -p exercises --profile dev` measures what readers run, as whoever runs it, root or an
//! ordinary user, and prints a table in Markdown. `ROUNDS=100` sets how many rounds. The worked
//! program of the last step is built first: its building is not in the figures.

use std::error::Error;
use std::io::{self, BufRead as _, BufReader};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, fs, process};

use exercises::check::steps::STEPS;
use exercises::solutions::cut;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// What is made for the run. It goes with us.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0); // should it stay, it harms nobody
    }
}

fn main() -> Result<()> {
    // cargo test --all-targets runs it too, without this argument.
    if !env::args().any(|argument| argument == "--bench") {
        return Ok(());
    }
    let folder = Folder(env::temp_dir().join(format!("check-time-{}", process::id())));
    let rounds = env::var("ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(20);
    let program = program(&folder.0)?;
    println!("| in {rounds} rounds | median | half of them |");
    println!("|---|---|---|");
    let (passed, mut times) = checks(&program, rounds)?;
    row(&format!("check, {passed} of {} steps passed", STEPS.len()), &mut times);
    row("check --watch, from a save to the answer", &mut saves(&folder.0, rounds)?);
    Ok(())
}

fn row(what: &str, times: &mut [Duration]) {
    times.sort();
    let [quarter, median, three] = [1, 2, 3].map(|nth| times[times.len() * nth / 4].as_millis());
    println!("| {what} | {median} ms | {quarter} to {three} |");
}

/// With a folder of its own for the progress.
fn exercises(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_exercises"));
    command.stdin(Stdio::null()).env("XDG_STATE_HOME", folder.join("state"));
    command
}

/// The worked program of the last step, built, as the `run` of a folder.
fn program(folder: &Path) -> Result<PathBuf> {
    let (package, checked) = (folder.join("package"), folder.join("checked"));
    fs::create_dir_all(&checked)?;
    let made = exercises(folder).arg("start").arg(&package).stdout(Stdio::null()).status()?;
    if !made.success() {
        return Err("start has failed".into());
    }
    fs::write(package.join("src/main.rs"), cut("rust", STEPS.len()))?;
    let target = package.join("target");
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or("cargo".into()));
    cargo.args(["build", "--quiet"]).current_dir(&package).env("CARGO_TARGET_DIR", &target);
    if !cargo.status()?.success() {
        return Err("cargo build has failed".into());
    }
    symlink(target.join("debug/my-container"), checked.join("run"))?;
    Ok(checked)
}

/// All steps, each time. Gives how many are passed, too: not every host has cgroups to give.
fn checks(program: &Path, rounds: usize) -> Result<(u64, Vec<Duration>)> {
    let (mut passed, mut times) = (0, Vec::new());
    for _ in 0..rounds {
        let mut check = exercises(program);
        check.args(["check", "--json", "--dir"]).arg(program);
        let start = Instant::now();
        let output = check.output()?;
        times.push(start.elapsed());
        let answer: serde_json::Value = serde_json::from_slice(&output.stdout)?;
        passed = answer["passed"].as_u64().unwrap_or_default();
    }
    Ok((passed, times))
}

/// It ends with us.
struct Watch(Child);

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A program of one line, saved as editors do, that ends each time in another way.
fn saves(folder: &Path, rounds: usize) -> Result<Vec<Duration>> {
    let package = folder.join("watched");
    fs::create_dir(&package)?;
    let save = |status: usize| -> io::Result<()> {
        let new = package.join("new");
        fs::write(&new, format!("#!/bin/sh\nexit {status}\n"))?;
        fs::set_permissions(&new, fs::Permissions::from_mode(0o755))?;
        fs::rename(new, package.join("run"))
    };
    save(0)?;
    let mut watch = exercises(folder);
    watch.args(["check", "--watch", "--dir"]).arg(&package).stdout(Stdio::piped());
    let mut watch = Watch(watch.spawn()?);
    let mut lines = BufReader::new(watch.0.stdout.take().ok_or("no pipe")?).lines();
    let mut until = |text: &str| -> Result<()> {
        let is_it = |line: &io::Result<String>| line.as_ref().map_or(true, |l| l.contains(text));
        lines.find(is_it).ok_or("it has ended")??;
        Ok(())
    };
    until("--hint")?;
    let mut times = Vec::new();
    for nth in 0..rounds {
        let (status, saved) = (nth % 100 + 1, Instant::now());
        save(status)?;
        until(&format!("ended, exit status {status}"))?;
        times.push(saved.elapsed());
        until("--hint")?;
    }
    Ok(times)
}
