//! A host that cannot run a lesson gets a cause and one thing to do, exit 69, and is unchanged.
//! A claim that does not hold exits 1. Nobody sees a panic.

mod accepted;
mod census;
mod host;
mod lessons;

use std::process::{Command, Output};
use std::time::Duration;

use census::Census;
use host::Host;
use nix::libc;
use workbook::contents;

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("a lesson prints UTF-8")
}

/// Runs a lesson. Whatever comes of it, the host is as it was.
fn run(command: &mut Command) -> Output {
    let before = Census::take(contents::root());
    let output = command.output().expect("the lesson starts");
    before.assert_same_within(Duration::ZERO, &format!("{command:?}"));
    output
}

/// What every lesson that needs namespaces says on this host, with its own name as `LESSON`.
fn refusal(host: Host) -> String {
    let lessons = lessons::here().into_iter().filter(|lesson| lessons::makes_namespaces(lesson));
    let mut said = lessons.map(|lesson| {
        let output = run(host::run_on(&mut lessons::command(&lesson), host));
        assert_eq!(output.status.code(), Some(69), "{lesson}: {output:?}");
        assert_eq!(text(&output.stdout), "", "{lesson}: nothing was observed");
        text(&output.stderr).replace(&lesson, "LESSON")
    });
    let first = said.next().expect("there are lessons");
    said.for_each(|other| assert_eq!(other, first, "one host, one cause"));
    first
}

fn assert_refused(host: Host, name: &str) {
    let _turn = census::turn();
    // With LESSON there may be none that makes namespaces.
    if lessons::here().iter().any(|lesson| lessons::makes_namespaces(lesson)) {
        accepted::assert_accepted(&format!("refused@{name}"), &refusal(host));
    }
}

#[test]
fn a_limit_of_no_user_namespaces_is_named() {
    assert_refused(Host::NoUserNamespaces, "max-user-namespaces");
}

#[test]
fn a_seccomp_filter_is_named() {
    assert_refused(Host::Seccomp, "seccomp");
}

#[test]
fn a_missing_proc_is_named() {
    assert_refused(Host::NoProc, "no-proc");
}

#[test]
fn a_chroot_is_named() {
    assert_refused(Host::Chroot, "chroot");
}

/// Root needs no user namespace, so the filter refuses the lesson's own call: of those that make more
/// than an ordinary user's namespace. CLONE_NEWUSER only where that is the lesson's subject.
#[test]
fn root_under_a_seccomp_filter_is_told_which_call_was_refused() {
    let _turn = census::turn();
    let lessons = lessons::here().into_iter().filter(|lesson| lessons::makes_namespaces(lesson));
    for lesson in lessons.filter(|lesson| lessons::names_flag(lesson, "CLONE_NEW")) {
        let output = run(host::run_as_root_under_seccomp(&mut lessons::command(&lesson)));
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(69), "{lesson}: {said}");
        assert!(said.contains("CLONE_NEW") && said.contains(" = -1 EPERM"), "{lesson}: {said}");
        let is_its_own = lessons::names_flag(&lesson, "CloneFlags::CLONE_NEWUSER");
        assert!(is_its_own || !said.contains("CLONE_NEWUSER"), "{lesson}: {said}");
        assert!(said.contains("a seccomp filter"), "{lesson}: {said}");
    }
}

/// Who has no kernel to boot is told where to get one; who may not read it, what to do.
#[test]
fn a_missing_or_closed_kernel_is_named() {
    let _turn = census::turn();
    let refusal = |host: Host| {
        let mut command = lessons::command("guest-demo");
        let output = run(host::run_on(command.env_remove("GUEST_KERNEL"), host));
        assert_eq!(output.status.code(), Some(69), "{host:?}: {output:?}");
        assert_eq!(text(&output.stdout), "", "{host:?}: nothing was observed");
        text(&output.stderr)
    };
    if lessons::here().iter().any(|lesson| lesson == "guest-demo") {
        accepted::assert_accepted("refused@no-kernel", &refusal(Host::NoKernel));
        let said = refusal(Host::ClosedKernel);
        assert!(said.contains("open(\"/boot/vmlinuz-*\") = -1 EACCES"), "{said}");
        assert!(said.contains("only root may read"), "{said}");
        assert!(said.contains("export GUEST_KERNEL="), "{said}");
    }
}

#[test]
fn a_missing_or_closed_kvm_is_named() {
    let _turn = census::turn();
    let is_kvm = |name: &String| name == "kvm-demo" && cfg!(target_arch = "x86_64");
    for lesson in lessons::names().into_iter().filter(is_kvm) {
        let cases = [(Host::NoKvm, "ENOENT", "KVM"), (Host::ClosedKvm, "EACCES", "root")];
        for (host, errno, cause) in cases {
            let output = run(host::run_on(&mut lessons::command(&lesson), host));
            let said = text(&output.stderr);
            assert_eq!(output.status.code(), Some(69), "{host:?}: {said}");
            assert_eq!(text(&output.stdout), "", "{host:?}: nothing was observed");
            let call = format!("call    open(\"/dev/kvm\") = -1 {errno}");
            assert!(said.contains(&call) && said.contains(cause), "{host:?}: {said}");
        }
    }
}

/// The lesson looks, and is not content with a call that says it worked.
#[test]
fn a_claim_that_does_not_hold_exits_1() {
    let _turn = census::turn();
    let cases = [
        ("uts-demo", libc::SYS_sethostname, "FAILS  A12"),
        ("mount-demo", libc::SYS_umount2, "FAILS  A7"),
        ("ps-demo", libc::SYS_kill, "FAILS  A19"),
        ("ps-demo", libc::SYS_mount, "FAILS  A16"),
        ("seccomp-demo", libc::SYS_seccomp, "FAILS  sec-1"),
        ("chroot-demo", libc::SYS_chroot, "FAILS  chr-1"),
        ("chroot-demo", libc::SYS_fchdir, "FAILS  chr-3"),
        ("rootfs-demo", libc::SYS_umount2, "FAILS  rfs-2"),
        ("overlay-demo", libc::SYS_pwrite64, "FAILS  ovl-2"),
    ];
    for (lesson, call, verdict) in cases {
        let mut command = lessons::command(lesson);
        let Output { status, stdout, .. } = run(host::run_on(&mut command, Host::Pretends(call)));
        assert_eq!(status.code(), Some(1), "{lesson}: {}", text(&stdout));
        assert!(text(&stdout).contains(verdict), "{lesson}: {}", text(&stdout));
    }
}

#[test]
fn output_to_a_full_disk_is_a_refusal() {
    let _turn = census::turn();
    let lessons = lessons::here();
    let mut programs: Vec<_> = ["", "claims", "run --all", "man", "completions bash"]
        .map(|line| ("workbook", line))
        .to_vec();
    programs.extend(lessons.iter().flat_map(|lesson| [(&**lesson, ""), (lesson, "--list")]));
    for (program, line) in programs {
        let mut command = lessons::command(program);
        let output = run(command.args(line.split_whitespace()).stdout(host::full_disk()));
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(69), "{program} {line}: {said}");
        assert!(said.contains("write(1) = -1 ENOSPC"), "{program} {line}: {said}");
    }
}

/// Who cannot be told gets the exit code all the same.
#[test]
fn a_refusal_that_cannot_be_printed_exits_69() {
    let _turn = census::turn();
    for program in lessons::here().into_iter().filter(|name| lessons::makes_namespaces(name)) {
        let mut command = lessons::command(&program);
        let output = run(host::run_on(command.stderr(host::full_disk()), Host::Chroot));
        assert_eq!(output.status.code(), Some(69), "{program}");
    }
}
