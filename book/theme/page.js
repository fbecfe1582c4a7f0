// Three things that mdBook does otherwise: see also head.hbs, and pages.rs of the reader.
"use strict";

// It opens the table of contents by the label of a hidden checkbox, which no key reaches. The build
// makes it a button. At the document, to come after what mdBook's listener does at the button.
document.addEventListener("click", (event) => {
    if (event.target.closest("#mdbook-sidebar-toggle")) {
        document.getElementById("mdbook-sidebar-toggle-anchor").click();
    }
});

// It calls all buttons that copy the same. A screen reader lists them away from what they copy.
for (const button of document.querySelectorAll("pre .clip-button")) {
    const block = button.closest("pre").querySelector("code").getAttribute("aria-label");
    button.setAttribute("aria-label", `Copy to clipboard: ${block}`);
}

// Its index has the words, cut at hyphens, and their beginnings: pid-2 finds all that has pid and
// something with 2. Here what has it as it was typed comes first.
{
    const { search } = elasticlunr.Index.prototype;
    elasticlunr.Index.prototype.search = function (typed, options) {
        const quoted = typed.replace(/[^\w\s]/g, "\\$&");
        const whole = new RegExp(`(?<![\\w-])${quoted}(?![\\w-])`, "i");
        const has = ({ doc }) => Number(whole.test(doc.title) || whole.test(doc.body));
        const found = search.call(this, typed, options);
        return found.sort((one, other) => has(other) - has(one));
    };
}
