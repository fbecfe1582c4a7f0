//! A guest that boots a distribution's kernel and runs all lessons: `init` in this folder does it. It
//! takes a worked program through the steps of "Your turn", too.

mod worked;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::libc::{S_IFDIR, S_IFREG};
use workbook::contents;
use workbook::guest::Archive;
use workbook::tool::{self, Tool};

use crate::lessons;

/// Files, by the names that they have in the guest.
pub type Files = BTreeMap<String, PathBuf>;

/// Boots the kernel in this folder, one of those that `.ci/kernels` fills, with these files. Gives
/// all that the guest has printed.
pub fn boot(kernel: &Path, files: &Files) -> String {
    let package = files_in(kernel);
    let image = package.iter().find(|(name, _)| name.starts_with("vmlinuz")).map(|(_, file)| file);
    let image = image.unwrap_or_else(|| panic!("no kernel in {kernel:?}"));
    let modules = ["llc", "stp", "bridge", "veth", "overlay"];
    let modules =
        modules.iter().flat_map(|module| [format!("{module}.ko"), format!("{module}.ko.xz")]);
    let mut archive = file_system(files);
    for module in modules.filter(|module| package.contains_key(module)) {
        archive.add_file(&module, &package[&module]).expect("a readable module");
    }
    let initramfs = archive.in_memory().expect("memory");
    // As guest-demo starts one.
    let mut qemu = Command::new(tool::find("qemu-system-x86_64").expect("qemu"));
    qemu.args(["-accel", "tcg", "-M", "q35", "-m", "512", "-nodefaults", "-no-user-config"]);
    qemu.args(["-display", "none", "-serial", "stdio", "-no-reboot"]);
    qemu.arg("-kernel").arg(image);
    qemu.args(["-initrd", &format!("/proc/self/fd/{}", initramfs.as_raw_fd())]);
    // The addresses of programs are not shuffled: qemu translates their code once, not each time.
    // And on a busy host the timer is late: that is no reason to panic.
    qemu.args(["-append", "console=ttyS0 quiet panic=-1 norandmaps no_timer_check"]);
    let qemu = Tool::start(&mut qemu, Duration::from_secs(900)).expect("qemu starts");
    let said = qemu.succeed().unwrap_or_else(|refusal| panic!("{kernel:?}: {refusal}"));
    assert!(said.contains("\n@end\n"), "{kernel:?}: {said}");
    said
}

/// The first file system: these files, `/init`, and what it reads.
fn file_system(files: &Files) -> Archive {
    let mut archive = Archive::default();
    for (name, file) in files {
        archive.add_file(name, file).expect("a readable file");
    }
    archive.add("/proc", S_IFDIR | 0o755, &[]);
    let list = lessons::names().join("\n") + "\n";
    for (name, text) in [
        ("/init", include_str!("init")),
        ("/lessons/list", &list),
        ("/apparmor/powerless", include_str!("powerless")),
        ("/apparmor/denied", include_str!("denied")),
    ] {
        archive.add(name, S_IFREG | 0o755, text.as_bytes());
    }
    archive
}

/// What every guest has: busybox, the lessons and what the workbook reads, AppArmor's parser, and
/// the libraries of all of them.
pub fn files(apparmor: &Path) -> Files {
    let mut files = Files::new();
    for tool in ["busybox", "unshare"] {
        files.insert(format!("/bin/{tool}"), tool::find(tool).expect("a tool of Debian"));
    }
    let others = ["workbook", "exercises"].map(str::to_string);
    for program in lessons::names().into_iter().chain(others) {
        let file = lessons::program(&program);
        files.insert(format!("/lessons/{program}"), stripped(&file));
    }
    files.insert("/my-container/run".to_string(), stripped(&worked::program()));
    let libraries = files.values().flat_map(|file| libraries(file)).collect::<BTreeSet<_>>();
    files.extend(libraries.into_iter().map(|library| (library.clone(), library.into())));
    // The parser has libraries of its own.
    let parser = files_in(apparmor);
    for name in ["apparmor_parser", "abi/4.0", "ld-linux-x86-64.so.2", "libc.so.6"] {
        let file = &parser[name.rsplit('/').next().unwrap_or_default()];
        files.insert(format!("/apparmor/{name}"), file.clone());
    }
    // The workbook looks for them where they are here.
    let sources = lessons::all().into_iter().map(|lesson| lessons::source_file(&lesson));
    let read = sources.chain([contents::root().join("book/src/SUMMARY.md")]);
    files.extend(read.map(|file| (file.to_string_lossy().into_owned(), file)));
    files
}

/// The libraries that a program is linked to: ldd(1). None if it is static.
fn libraries(program: &Path) -> Vec<String> {
    let ldd = Command::new("ldd").arg(program).output().expect("ldd(1), of libc");
    // `libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x...)`
    let said = String::from_utf8_lossy(&ldd.stdout).into_owned();
    said.split_whitespace().filter(|word| word.starts_with('/')).map(str::to_string).collect()
}

/// A program of ours without what a debugger needs, which is most of it.
fn stripped(program: &Path) -> PathBuf {
    let name = program.file_name().expect("a program has a name");
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let strip = Command::new("strip").arg("-o").arg(&file).arg(program).status();
    assert!(strip.expect("strip(1), as the linker of binutils").success(), "{program:?}");
    file
}

/// The files in a folder and in those below, by their names.
fn files_in(folder: &Path) -> Files {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{folder:?}: {error}"));
    let mut found = Files::new();
    for entry in entries {
        let entry = entry.expect("a readable folder");
        match entry.file_type().expect("a readable folder").is_dir() {
            true => found.extend(files_in(&entry.path())),
            false => {
                found.insert(entry.file_name().to_string_lossy().into_owned(), entry.path());
            }
        }
    }
    found
}
