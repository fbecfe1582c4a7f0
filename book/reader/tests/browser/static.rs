//! The pages as they are on a disk.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use fantoccini::key::Key;
use fantoccini::wd::Locator;
use serde_json::json;

use crate::axe;
use crate::driver::Browser;

/// The pages, written once for all tests.
fn pages() -> &'static Path {
    static PAGES: OnceLock<PathBuf> = OnceLock::new();
    PAGES.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("browser");
        book_reader::build(&book_reader::folder(), Some(&folder)).expect("the book is built")
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
        .filter(|name| name != "404") // what only a server shows
        .collect();
    names.sort();
    names
}

const THEMES: [&str; 5] = ["light", "rust", "coal", "navy", "ayu"];

/// Pages that have all kinds of things between them.
const SOME: [&str; 4] = ["pid-demo", "overlay-demo", "refused-demo", "what-a-container-costs"];

#[tokio::test]
async fn axe_finds_no_violation() {
    let Some(browser) = Browser::start().await else { return };
    browser.size(1280, 800).await;
    let mut found = Vec::new();
    for name in names() {
        browser.open(&file(&name)).await;
        let violations = axe::violations(&browser).await;
        found.extend(violations.iter().map(|violation| format!("{name}: {violation}")));
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[tokio::test]
async fn axe_finds_no_violation_in_any_theme_narrow_or_while_it_is_searched() {
    let Some(browser) = Browser::start().await else { return };
    let mut found = Vec::new();
    for (theme, width) in THEMES.iter().flat_map(|theme| [1280, 360].map(|width| (*theme, width))) {
        browser.size(width, 800).await;
        browser.open(&file(SOME[0])).await;
        browser.theme(theme).await;
        for name in SOME {
            browser.open(&file(name)).await;
            if name == SOME[0] {
                search(&browser, "namespace").await;
            }
            let violations = axe::violations(&browser).await;
            let here = format!("{name}, {theme}, {width}");
            found.extend(violations.iter().map(|violation| format!("{here}: {violation}")));
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// Types this into the search field, and gives the chapters of what is found.
async fn search(browser: &Browser, words: &str) -> Vec<String> {
    browser
        .client
        .find(Locator::Id("mdbook-search-toggle"))
        .await
        .expect("a button")
        .click()
        .await
        .expect("it opens");
    browser.keys(words).await;
    let results = "#mdbook-searchresults li a";
    browser.client.wait().for_element(Locator::Css(results)).await.expect("something is found");
    let links = browser
        .run(&format!("return [...document.querySelectorAll('{results}')].map((a) => a.pathname)"))
        .await;
    let links = links.as_array().cloned().unwrap_or_default();
    links
        .iter()
        .filter_map(|link| Some(Path::new(link.as_str()?).file_stem()?.to_str()?.to_string()))
        .collect()
}

/// A page of `file://` may load less than one of a server. No page is wider than the window: what is
/// wide scrolls by itself. And what a picture says stays in its box.
#[tokio::test]
async fn every_page_works_from_a_file_asks_nobody_and_is_as_wide_as_the_window() {
    let Some(browser) = Browser::start().await else { return };
    let wide = "const scrolls = (element) => element.localName !== 'main'
            && (getComputedStyle(element).overflowX === 'auto' || scrolls(element.parentElement));
        return [...document.querySelectorAll('main *')]
        .filter((element) => element.getBoundingClientRect().right > innerWidth)
        .filter((element) => !scrolls(element.parentElement))
        .map((element) => element.outerHTML.slice(0, 80))";
    // A text is in the narrowest box that it begins in. The last one is below the picture.
    let wider_than_its_box = "const place = (element) => element.getBoundingClientRect();
        const holds = (box, { left, top }) =>
            box.left < left && left < box.right && box.top < top && top < box.bottom;
        return [...document.querySelectorAll('figure.map')].flatMap((picture) => {
            const boxes = [...picture.querySelectorAll('rect')].map(place);
            return [...picture.querySelectorAll('text')].filter((text) => {
                const around = boxes.filter((box) => holds(box, place(text)));
                return place(text).right > Math.min(...around.map((box) => box.right));
            }).map((text) => text.textContent);
        })";
    for name in names() {
        // The table of contents is beside the text where there is room when the page is loaded.
        for widths in [&[360, 800, 3840][..], &[1280]] {
            browser.size(widths[0], 800).await;
            browser.open(&file(&name)).await;
            for &width in widths {
                browser.size(width, 800).await;
                assert_eq!(browser.run(wide).await, json!([]), "{name}, {width}");
            }
        }
        assert_eq!(browser.run(wider_than_its_box).await, json!([]), "{name}");
        assert_eq!(browser.errors().await, [""; 0], "{name}");
        let requests = browser.requests().await;
        assert!(requests.len() > 10, "{requests:?}");
        // The browser's own start page is of chrome://.
        let known =
            |url: &&String| ["file:", "chrome:", "data:"].iter().any(|s| url.starts_with(s));
        assert!(requests.iter().all(|url| known(&url)), "{name}: {requests:?}");
    }
}

#[tokio::test]
async fn no_line_ends_within_an_option() {
    let Some(browser) = Browser::start().await else { return };
    browser.size(360, 800).await;
    let options = "const found = [];
        for (const code of document.querySelectorAll('main :not(pre) > code')) {
            const texts = document.createTreeWalker(code, NodeFilter.SHOW_TEXT);
            while (texts.nextNode()) {
                for (const { 0: word, index } of texts.currentNode.data.matchAll(/-\\S+/g)) {
                    const range = document.createRange();
                    range.setStart(texts.currentNode, index);
                    range.setEnd(texts.currentNode, index + word.length);
                    const tops = [...range.getClientRects()].map(({ top }) => top);
                    found.push([word, new Set(tops).size]);
                }
            }
        }
        return found.filter(([word]) => word.startsWith('--'))";
    for name in ["introduction", "your-turn", "live"] {
        browser.open(&file(name)).await;
        let options = browser.run(options).await;
        let options = options.as_array().expect("a list");
        assert!(!options.is_empty(), "{name}");
        let torn: Vec<_> = options.iter().filter(|option| option[1] != 1).collect();
        assert!(torn.is_empty(), "{name}: {torn:?}");
    }
}

/// What it is looked for, and a chapter among the first five that are found.
const FOUND: [(&str, &str); 10] = [
    ("A11", "pid-demo"),
    ("pid-2", "pid-demo"),
    ("mnt-2", "mount-demo"),
    ("EPERM", "refused-demo"),
    ("ENOMEM", "init-demo"),
    ("unshare", "unshare-demo"),
    ("unshare(2)", "unshare-demo"),
    ("pivot_root", "rootfs-demo"),
    ("user_namespaces(7)", "user-demo"),
    ("CLONE_NEWPID", "pid-demo"),
];

#[tokio::test]
async fn the_search_finds_claims_errors_calls_and_man_pages() {
    let Some(browser) = Browser::start().await else { return };
    for (words, chapter) in FOUND {
        browser.open(&file("introduction")).await;
        let found = search(&browser, words).await;
        let first = found.iter().take(5).collect::<Vec<_>>();
        assert!(first.iter().any(|name| *name == chapter), "{words}: {first:?}");
    }
    assert_eq!(browser.errors().await, [""; 0]);
}

/// All that can be used, in the order of the page. Of radio buttons of one name Tab reaches one.
const USABLE: &str = "const usable = 'a[href], button, input, summary, [tabindex=\"0\"]';
    return [...document.querySelectorAll(usable)].filter((element) => {
        const group = document.getElementsByName(element.name);
        return element.checkVisibility()
            && (element.type !== 'radio' || element === group[0]);
    })";

#[tokio::test]
async fn the_tab_key_reaches_everything_and_first_a_way_to_the_text() {
    let Some(browser) = Browser::start().await else { return };
    for width in [360, 1280] {
        browser.size(width, 800).await;
        browser.open(&file("pid-demo")).await;
        let number = browser.run(&format!("{USABLE}.length")).await.as_u64().expect("a number");
        assert!(number > 20, "{number}");
        for nth in 0..number {
            browser.keys(&Key::Tab.to_string()).await;
            let here = format!(
                "const all = (() => {{ {USABLE} }})();
                const now = document.activeElement;
                return now === all[{nth}] ? '' : now.outerHTML + ' is not ' + all[{nth}].outerHTML"
            );
            assert_eq!(browser.run(&here).await, "", "{width}, {nth}");
        }
    }
    browser.open(&file("pid-demo")).await;
    browser.keys(&Key::Tab.to_string()).await;
    browser.keys(&Key::Enter.to_string()).await;
    assert_eq!(browser.run("return document.activeElement.localName").await, "main");
}

#[tokio::test]
async fn a_single_key_is_the_readers_and_the_contents_open_by_keyboard() {
    let Some(browser) = Browser::start().await else { return };
    browser.size(360, 800).await;
    browser.open(&file("pid-demo")).await;
    for key in ["s", "/", "?", &Key::Right.to_string(), &Key::Left.to_string()] {
        browser.keys(key).await;
    }
    assert_eq!(browser.client.current_url().await.expect("a page").as_str(), file("pid-demo"));
    assert_eq!(browser.run("return document.activeElement.localName").await, "body");
    let seen = "return document.querySelector('#mdbook-sidebar a').checkVisibility()";
    assert_eq!(browser.run(seen).await, false);
    browser.run("document.getElementById('mdbook-sidebar-toggle').focus()").await;
    browser.keys(&Key::Enter.to_string()).await;
    assert_eq!(browser.run(seen).await, true);
    let toggle = "return document.getElementById('mdbook-sidebar-toggle').ariaExpanded";
    assert_eq!(browser.run(toggle).await, "true");
}

#[tokio::test]
async fn a_button_says_what_it_copies() {
    let Some(browser) = Browser::start().await else { return };
    browser.open(&file("pid-demo")).await;
    let names = "return [...document.querySelectorAll('.clip-button')].map((one) => one.ariaLabel)";
    let names = browser.run(names).await;
    let says = |what: &str| names.as_array().is_some_and(|names| names.contains(&what.into()));
    for what in ["Source", "Commands", "Output of cargo run --bin pid-demo -- --shell"] {
        assert!(says(&format!("Copy to clipboard: {what}")), "{what}: {names}");
    }
    assert!(!says("Copy to clipboard"), "{names}");
}

/// Of a dark theme, too. What is folded away stays away.
#[tokio::test]
async fn in_print_a_page_is_black_on_white_without_controls() {
    let Some(browser) = Browser::start().await else { return };
    browser.open(&file("pid-demo")).await;
    browser.theme("navy").await;
    browser.debug("Emulation.setEmulatedMedia", json!({ "media": "print" })).await;
    let controls = "return [...document.querySelectorAll('button, input, summary, nav, header')]
        .filter((element) => element.checkVisibility()).map((element) => element.outerHTML)";
    assert_eq!(browser.run(controls).await, json!([]));
    let colours = "return [...new Set([...document.querySelectorAll('main, main *')]
        .filter((element) => element.checkVisibility()).map((element) => getComputedStyle(element).color))]";
    assert_eq!(browser.run(colours).await, json!(["rgb(0, 0, 0)"]));
    assert_eq!(axe::violations(&browser).await, [""; 0]);
}

/// Pages and widths for people to look at, in target/tmp/screenshots.
#[tokio::test]
async fn screenshots() {
    let Some(browser) = Browser::start().await else { return };
    for name in ["introduction", "pid-demo", "overlay-demo"] {
        for (width, theme) in [(1280, "light"), (360, "navy")] {
            browser.size(width, 2400).await;
            browser.open(&file(name)).await;
            browser.theme(theme).await;
            browser.screenshot(&format!("{name}-{width}-{theme}")).await;
        }
    }
}
