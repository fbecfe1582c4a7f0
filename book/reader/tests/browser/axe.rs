//! What axe-core finds: <https://github.com/dequelabs/axe-core>, in `axe-core/` with its licence.

use serde_json::Value;

use crate::driver::Browser;

/// The violations in the page that the browser shows, a line for each place.
pub async fn violations(browser: &Browser) -> Vec<String> {
    browser.run(include_str!("axe-core/axe.min.js")).await;
    let script = "const done = arguments[0];
        axe.run({ resultTypes: ['violations'] })
            .then((found) => done(found.violations), (error) => done(`${error}`));";
    let found = browser.client.execute_async(script, Vec::new()).await.expect("axe runs");
    let mut lines = Vec::new();
    for violation in found.as_array().unwrap_or_else(|| panic!("axe: {found}")) {
        for node in violation["nodes"].as_array().expect("places") {
            let html: String = text(&node["html"]).chars().take(100).collect();
            let why = text(&node["failureSummary"]).replace('\n', " ");
            lines.push(format!("{}: {} {html}: {why}", text(&violation["id"]), node["target"]));
        }
    }
    lines
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
