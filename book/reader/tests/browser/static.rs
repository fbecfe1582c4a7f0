//! The pages as they are on a disk.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use fantoccini::key::Key;
use fantoccini::wd::Locator;

use crate::axe;
use crate::driver::Browser;

/// The pages, written once for all tests.
fn pages() -> &'static Path {
    static PAGES: OnceLock<PathBuf> = OnceLock::new();
    PAGES.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("browser");
        book_reader::build(book_reader::folder(), Some(&folder)).expect("the book is built")
    })
}

/// The address of a page on the disk.
pub fn file(page: &str) -> String {
    format!("file://{}/{page}.html", pages().display())
}

/// The names of all pages.
fn names() -> Vec<String> {
    let files = pages().read_dir().expect("a folder").map(|entry| entry.expect("an entry").path());
    let mut names: Vec<_> = files
        .filter(|file| file.extension().is_some_and(|extension| extension == "html"))
        .filter_map(|file| Some(file.file_stem()?.to_str()?.to_string()))
        .filter(|name| name != "toc") // a frame for browsers without scripts
        .collect();
    names.sort();
    names
}

const THEMES: [&str; 5] = ["light", "rust", "coal", "navy", "ayu"];

#[tokio::test]
async fn axe_finds_no_violation() {
    let Some(browser) = Browser::start(&[]).await else { return };
    browser.open(&file("index")).await;
    let mut found = Vec::new();
    for theme in THEMES {
        browser.theme(theme).await;
        for name in names() {
            browser.open(&file(&name)).await;
            let violations = axe::violations(&browser).await;
            found.extend(violations.iter().map(|violation| format!("{theme} {name}: {violation}")));
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[tokio::test]
async fn a_file_asks_no_other_host_and_has_no_error() {
    let Some(browser) = Browser::start(&[]).await else { return };
    browser.open(&file("pid-demo")).await;
    browser.run("document.getElementById('mdbook-search-toggle').click()").await;
    browser.keys("unshare").await;
    browser.client.wait().for_element(Locator::Css("#mdbook-searchresults li")).await.expect("hit");
    browser.keys(&Key::Escape.to_string()).await;
    browser.size(360, 640).await;
    browser.screenshot("pid-demo-360").await;
    assert_eq!(browser.errors().await, [""; 0]);
    let requests = browser.requests().await;
    assert!(requests.len() > 10, "{requests:?}");
    // The browser's own start page is of chrome://.
    let elsewhere = requests
        .iter()
        .filter(|url| !["file:", "chrome:", "data:"].iter().any(|scheme| url.starts_with(scheme)));
    assert_eq!(elsewhere.collect::<Vec<_>>(), [""; 0]);
}
