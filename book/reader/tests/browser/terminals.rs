//! Lessons that run in the page.

use std::fs;

use fantoccini::actions::{InputSource as _, MOUSE_BUTTON_LEFT, MouseActions, PointerAction};
use fantoccini::key::Key;
use fantoccini::wd::Locator;
use serde_json::json;

use crate::server::{Live, named, screen};

const IN_TERMINAL: &str = "document.activeElement.closest('.live-screen')";

fn control(keys: &str) -> String {
    format!("{}{keys}{}", Key::Control, Key::Null)
}

fn shift(keys: &str) -> String {
    format!("{}{keys}{}", Key::Shift, Key::Null)
}

/// The host's name.
fn host() -> String {
    fs::read_to_string("/proc/sys/kernel/hostname").expect("/proc").trim_end().to_string()
}

const INSIDE: &str = "uts-demo, inside";

#[tokio::test]
async fn a_lesson_runs_and_steps_and_is_stopped() {
    let Some(live) = Live::start().await else { return };
    live.open("pid-demo").await;
    let picture = "document.querySelector('figure.map[data-lesson=\"pid-demo\"] svg').textContent";
    assert!(live.is(&format!("{picture}.includes('PID 48213')")).await);
    live.press("Run: pid-demo").await;
    live.says("pid-demo", "Ended, exit status 0.").await;
    assert!(live.is("document.activeElement.textContent === 'Ended, exit status 0.'").await);
    // An Enter too many starts nothing.
    live.browser.keys("\n").await;
    assert!(!live.is(&format!("{}.disabled", named("Run: pid-demo"))).await);
    live.shows("pid-demo", "holds  pid-1").await;

    // The picture has the numbers of this run, and no longer those of the book's.
    live.until(&format!("/PID [0-9]+ outside, 1 inside/.test({picture})")).await;
    live.until(&format!("!{picture}.includes('PID 48213')")).await;

    live.press("Run: pid-demo without newpid").await;
    live.shows("pid-demo without newpid", "without newpid: ").await;
    live.says("pid-demo without newpid", "Ended, exit status 0.").await;

    live.press("Step: pid-demo").await;
    live.says("pid-demo", "Running.").await;
    live.shows("pid-demo", "book/src/pid-demo.md").await;
    live.browser.keys("\n").await;
    live.shows("pid-demo", "outside  ").await;
    assert!(!live.is(&format!("{}.includes('clone(')", screen("pid-demo"))).await);
    live.browser.keys(&control("c")).await;
    live.says("pid-demo", "Ended").await;

    live.press("Step: pid-demo").await;
    live.says("pid-demo", "Running.").await;
    live.shows("pid-demo", "book/src/pid-demo.md").await;
    assert!(!live.processes().is_empty());
    live.press("Stop: pid-demo").await;
    live.says("pid-demo", "Ended").await;
    assert!(live.is("document.activeElement.textContent.startsWith('Ended')").await);
    assert_eq!(live.processes(), [""; 0]);
    assert_eq!(live.browser.errors().await, [""; 0]);
}

#[tokio::test]
async fn a_name_set_inside_is_not_the_host_s_and_the_last_page_that_leaves_ends_it() {
    let Some(live) = Live::start().await else { return };
    let host = host();
    live.open("uts-demo").await;
    live.press(&format!("Stand inside: {INSIDE}")).await;
    live.shows(INSIDE, "[inside uts-demo]").await;
    // Also that UTF-8 gets there and back.
    live.browser.keys("hostname mine; hostname; echo größe\n").await;
    live.shows(INSIDE, "\nmine\ngröße\n").await;
    assert_eq!(self::host(), host);

    live.press("Run beside it: uts-demo, again").await;
    live.says("uts-demo, again", "Ended, exit status 0.").await;
    let outside = format!("outside  gethostname\\(\\) {{20,}}= {}", host);
    live.until(&format!("/{outside}/.test({})", screen("uts-demo, again"))).await;
    assert!(!live.processes().is_empty());

    live.browser.client.refresh().await.expect("the page loads again");
    live.shows(INSIDE, "\nmine\ngröße\n").await;
    live.says(INSIDE, "Running.").await;
    live.browser
        .run(&format!("{}.querySelector('textarea').focus()", named(&format!("Live: {INSIDE}"))))
        .await;
    live.browser.keys("echo $((40 + 2))\n").await;
    live.shows(INSIDE, "\n42\n").await;

    assert_eq!(live.browser.errors().await, [""; 0]);
    live.browser.open("about:blank").await;
    live.all_end();
}

#[tokio::test]
async fn the_keyboard_alone_is_enough() {
    let Some(live) = Live::start().await else { return };
    live.open("uts-demo").await;
    let wanted =
        format!("document.activeElement === {}", named(&format!("Stand inside: {INSIDE}")));
    let mut tabs = 0;
    while !live.is(&wanted).await {
        live.browser.keys(&Key::Tab.to_string()).await;
        tabs += 1;
        assert!(tabs < 300, "Tab does not get there");
    }
    live.browser.keys(&Key::Enter.to_string()).await;
    live.shows(INSIDE, "[inside uts-demo]").await;
    let named = live.browser.run("return document.activeElement.ariaLabel").await;
    assert_eq!(named, "Terminal: uts-demo, inside. Ctrl-Shift-L leaves it.");

    // Tab, Esc and the arrows are the shell's: neither the focus nor the page moves.
    live.browser.keys("cat -vT\n").await;
    let tab = Key::Tab.to_string();
    let keys = format!("{tab}{}{}{}", shift(&tab), Key::Left, Key::Escape);
    live.browser.keys(&keys).await;
    live.browser.keys("\n").await;
    live.shows(INSIDE, "\n^I^[[Z^[[D^[\n").await;
    live.browser.keys(&control("d")).await;
    assert!(live.is(IN_TERMINAL).await);

    live.browser.keys(&control(&shift("L"))).await;
    assert!(!live.is(IN_TERMINAL).await);
    live.browser.keys(&tab).await;
    assert!(!live.is(IN_TERMINAL).await, "it is a trap");
    live.browser.keys(&shift(&tab)).await;
    assert!(live.is(IN_TERMINAL).await);
    live.browser.keys("exit\n").await;
    live.says(INSIDE, "Ended, exit status 0.").await;
    live.browser.keys(&shift(&tab)).await;
    assert!(live.is(&wanted).await, "the button is not before the words that say how it ended");
    assert_eq!(live.browser.errors().await, [""; 0]);
}

/// To draw a lesson is to build and to run it once more.
#[tokio::test]
async fn what_has_not_ended_well_is_not_drawn() {
    let Some(live) = Live::start().await else { return };
    live.open("guest-demo").await;
    live.browser
        .run(
            "const picture = document.createElement('figure');
            picture.className = 'map';
            picture.dataset.lesson = 'guest-demo';
            document.querySelector('main').append(picture);
            const ask = window.fetch;
            window.asked = [];
            window.fetch = (path, request) => {
                asked.push(path);
                return ask(path, request);
            };",
        )
        .await;
    live.press("Run: guest-demo").await;
    live.says("guest-demo", "Ended, exit status 69.").await; // the server's GUEST_KERNEL is no file
    assert!(live.is("asked.includes('/live/terminals')").await);
    assert!(!live.is("asked.includes('/live/map/guest-demo')").await);
    assert_eq!(live.browser.errors().await, [""; 0]);
}

#[tokio::test]
async fn a_row_has_room_for_an_underscore() {
    let Some(live) = Live::start().await else { return };
    for width in [1280, 360] {
        live.browser.size(width, 900).await;
        live.open("uts-demo").await;
        live.press("Run: uts-demo").await;
        live.says("uts-demo", "Ended, exit status 0.").await;
        let row = format!("{}.querySelector('.xterm-rows > div')", named("Live: uts-demo"));
        // The letters stand in the middle of a row, and what is outside of it is not drawn.
        let room = format!(
            "const style = getComputedStyle({row});
            const canvas = document.createElement('canvas').getContext('2d');
            canvas.font = style.fontSize + ' ' + style.fontFamily;
            const underscore = canvas.measureText('_');
            const above = underscore.fontBoundingBoxAscent;
            const letters = above + underscore.fontBoundingBoxDescent;
            const row = parseFloat(style.height);
            return row - (row - letters) / 2 - above - underscore.actualBoundingBoxDescent;"
        );
        let room = live.browser.run(&room).await.as_f64().expect("a number");
        assert!(room >= 0., "{width}: {room}");
    }
}

#[tokio::test]
async fn much_output_and_a_small_window() {
    let Some(live) = Live::start().await else { return };
    live.open("uts-demo").await;
    live.press(&format!("Stand inside: {INSIDE}")).await;
    live.shows(INSIDE, "[inside uts-demo]").await;
    // Several times what the server sends before it has heard that something was seen.
    live.browser.keys("seq 300000; echo all of it\n").await;
    live.shows(INSIDE, "\n299999\n300000\nall of it\n").await;

    let sizes = [(1280, 1400, "36 86"), (1280, 700, "2[4-9] 86"), (360, 640, "30 [34][0-9]")];
    for (width, height, size) in sizes {
        live.browser.size(width, height).await;
        live.browser.keys("echo; stty size\n").await;
        live.until(&format!("/\\n{size}\\n/.test({})", screen(INSIDE))).await;
        assert!(live.is("document.documentElement.scrollWidth <= innerWidth").await);
        let terminal =
            format!("{}.querySelector('.live-screen')", named(&format!("Live: {INSIDE}")));
        assert!(live.is(&format!("{terminal}.offsetHeight < 0.8 * innerHeight")).await);
    }
}

#[tokio::test]
async fn what_is_copied_and_what_is_pasted() {
    let Some(live) = Live::start().await else { return };
    live.open("uts-demo").await;
    live.press(&format!("Stand inside: {INSIDE}")).await;
    live.shows(INSIDE, "[inside uts-demo]").await;
    live.browser.keys("clear; echo größe; wc -c\n").await;
    live.until(&format!("{}.startsWith('größe\\n')", screen(INSIDE))).await;

    let rights = json!({ "permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"] });
    live.browser.debug("Browser.grantPermissions", rights).await;
    let row = format!("#mdbook-content [aria-label=\"Live: {INSIDE}\"] .xterm-rows > div");
    let word = live.browser.client.find(Locator::Css(&format!("{row} span"))).await;
    let word = word.expect("the first row has a word");
    let mouse = MouseActions::new("mouse".to_string());
    let move_there = PointerAction::MoveToElement { element: word, duration: None, x: 0., y: 0. };
    let (down, up) = (
        PointerAction::Down { button: MOUSE_BUTTON_LEFT },
        PointerAction::Up { button: MOUSE_BUTTON_LEFT },
    );
    let twice = mouse.then(move_there).then(down.clone()).then(up.clone()).then(down).then(up);
    live.browser.client.perform_actions(twice).await.expect("a double click");
    live.browser.keys(&control(&shift("C"))).await;
    let copied = "navigator.clipboard.readText().then(arguments[0], arguments[0])";
    let copied = live.browser.client.execute_async(copied, Vec::new()).await.expect("a text");
    assert_eq!(copied, "größe");

    // More than the server takes in one message.
    live.browser
        .run(
            "const pasted = new DataTransfer();
            pasted.setData('text/plain', ('x'.repeat(79) + '\\n').repeat(2000));
            const paste = { clipboardData: pasted, bubbles: true, cancelable: true };
            document.activeElement.dispatchEvent(new ClipboardEvent('paste', paste));",
        )
        .await;
    live.shows(INSIDE, &"x".repeat(79)).await;
    live.browser.keys(&control("d")).await;
    live.shows(INSIDE, "\n160000\n").await;
    assert_eq!(live.browser.errors().await, [""; 0]);
}

#[tokio::test]
async fn another_page_takes_a_terminal_over() {
    let Some(live) = Live::start().await else { return };
    live.open("uts-demo").await;
    live.press(&format!("Stand inside: {INSIDE}")).await;
    live.shows(INSIDE, "[inside uts-demo]").await;
    let first = live.browser.client.window().await.expect("a window");
    let second = live.browser.client.new_window(true).await.expect("another window").handle;
    live.browser.client.switch_to_window(second).await.expect("it is there");
    live.open("uts-demo").await;
    live.shows(INSIDE, "[inside uts-demo]").await;
    live.says(INSIDE, "Running.").await;
    live.browser.client.switch_to_window(first).await.expect("it is there");
    live.says(INSIDE, "This terminal is on another page now.").await;
}

#[tokio::test]
async fn a_line_that_drops_is_taken_up_again() {
    let Some(live) = Live::start().await else { return };
    live.open("uts-demo").await;
    let kept = "window.sockets = [];
        window.WebSocket = class extends WebSocket {
            constructor(address) { super(address); window.sockets.push(this); }
        };";
    live.browser.run(kept).await;
    live.press(&format!("Stand inside: {INSIDE}")).await;
    live.shows(INSIDE, "[inside uts-demo]").await;
    live.browser.run("window.sockets[0].close()").await;
    live.until("window.sockets.length === 2 && window.sockets[1].readyState === 1").await;
    live.browser.keys("echo $((40 + 2))\n").await;
    live.shows(INSIDE, "\n42\n").await;
    live.says(INSIDE, "Running.").await;
    assert_eq!(live.browser.errors().await, [""; 0]);
}
