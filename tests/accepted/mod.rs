//! The accepted snapshots in tests/snapshots/, named as the chapters include them:
//! `pid-demo.snap`, `pid-demo@without-newpid.snap`.

/// Holds `text` against the accepted snapshot of that name.
pub fn assert_accepted(name: &str, text: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("../snapshots");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true); // three lines of header: the book includes from the fourth
    settings.bind(|| insta::assert_snapshot!(name, text));
}
