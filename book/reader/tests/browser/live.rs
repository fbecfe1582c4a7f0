//! What the live page is beside its terminals, and what is left of it without the server.

use std::fs;

use serde_json::Value;

use crate::axe;
use crate::driver::Browser;
use crate::server::{Live, named};
use crate::r#static::file;

#[tokio::test]
async fn an_answer_in_the_page_is_kept_as_study_keeps_it() {
    let Some(live) = Live::start().await else { return };
    live.open("pid-demo").await;
    let question = "document.querySelector('[data-question=\"pid-demo/1\"]')";
    for (option, said, kept) in [(1, "Not so.", "wrong"), (3, "As you said.", "right")] {
        let choose = format!("{question}.querySelector('[value=\"{option}\"]').click()");
        live.browser.run(&choose).await;
        live.browser.run(&format!("{question}.querySelector('button').click()")).await;
        let status = format!("{question}.querySelector('[role=status]').textContent");
        live.until(&format!("{status} === '{said} Kept.'")).await;
        let progress = live.server.state.join("starting-with-linux-containers/progress");
        let progress = fs::read_to_string(progress).expect("progress is kept");
        assert_eq!(progress.lines().last(), Some(&*format!("{kept} pid-demo/1")));
    }
    assert_eq!(live.browser.errors().await, [""; 0]);
}

#[tokio::test]
async fn a_step_is_checked_in_its_box() {
    let Some(live) = Live::start().await else { return };
    live.open("your-turn").await;
    live.press("Check: step pid").await;
    live.says("step pid", "Ended, exit status ").await;
    assert_eq!(live.browser.errors().await, [""; 0]);
}

/// Nothing is compressed on the way. The search loads its index when somebody searches, and the
/// terminal comes when somebody wants one.
#[tokio::test]
async fn the_first_page_and_all_it_loads_are_less_than_300_kb() {
    let Some(live) = Live::start().await else { return };
    let sizes = "return ['navigation', 'resource']
        .flatMap((kind) => performance.getEntriesByType(kind))
        .map((entry) => entry.encodedBodySize)";
    let sizes = live.browser.run(sizes).await;
    let sizes = sizes.as_array().expect("a list").iter().filter_map(Value::as_u64);
    let bytes = sizes.sum::<u64>();
    assert!((100_000..300_000).contains(&bytes), "{bytes} bytes");
}

#[tokio::test]
async fn without_the_cookie_and_in_a_file_nothing_is_live() {
    let Some(live) = Live::start().await else { return };
    let Some(other) = Browser::start().await else { return };
    for page in [format!("{}/pid-demo.html", live.server.origin()), file("pid-demo")] {
        other.open(&page).await;
        let marks = other.run("return document.querySelectorAll('.run').length").await;
        assert_eq!(marks, 3, "{page}");
        let buttons = other.run("return document.querySelectorAll('.live').length").await;
        assert_eq!(buttons, 0, "{page}");
        assert_eq!(other.errors().await, [""; 0], "{page}");
    }
}

#[tokio::test]
async fn a_server_that_is_gone_is_said_and_the_page_still_reads() {
    let Some(mut live) = Live::start().await else { return };
    live.open("uts-demo").await;
    live.press("Stand inside: uts-demo, inside").await;
    live.shows("uts-demo, inside", "[inside uts-demo]").await;
    live.server.process.kill().expect("it is there");
    live.server.process.wait().expect("it ends");
    live.until("document.querySelector('[role=alert]').textContent.includes('cargo book')").await;
    let place = "document.querySelector('[role=alert]').getBoundingClientRect()";
    assert!(live.is(&format!("{place}.top > 0 && {place}.bottom <= innerHeight")).await);
    let buttons = "[...document.querySelectorAll('.live button:not([hidden])')]";
    live.until(&format!("{buttons}.every((button) => button.disabled)")).await;
    live.says("uts-demo, inside", "The book's server is gone.").await;
    assert!(
        live.is("document.querySelector('main').innerText.includes('uts_namespaces(7)')").await
    );
    live.all_end();
}

#[tokio::test]
async fn axe_finds_nothing_beside_an_open_terminal() {
    let Some(live) = Live::start().await else { return };
    let mut found = Vec::new();
    for (theme, width) in
        [("light", 1800), ("navy", 360), ("rust", 1280), ("coal", 1280), ("ayu", 800)]
    {
        live.browser.size(width, 1000).await;
        live.open("uts-demo").await;
        live.browser.theme(theme).await;
        live.until("document.querySelector('.live button')").await;
        live.press("Run beside it: uts-demo, again").await;
        live.says("uts-demo, again", "Ended, exit status 0.").await;
        live.press("Stand inside: uts-demo, inside").await;
        live.shows("uts-demo, inside", "[inside uts-demo]").await;
        live.browser.run(&format!("{}.scrollIntoView()", named("Live: uts-demo, inside"))).await;
        live.browser.screenshot(&format!("live-{theme}-{width}")).await;
        found.extend(axe::violations(&live.browser).await);
        live.press("Stop: uts-demo, inside").await;
        live.says("uts-demo, inside", "Ended").await;
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}
