// The live book: the lessons run in the page. Without the server that runs them, as in a file or on
// another host, nothing of this is seen, and the page has all the rest.
"use strict";

(async () => {
    // The server says by a cookie that it knows this browser. All pages in one are for printing.
    const isKnown = document.cookie.includes(`live-${location.port}=`);
    if (!isKnown || location.pathname.endsWith("/print.html")) {
        return;
    }
    let sessions;
    try {
        sessions = await liveServer.terminals();
    } catch {
        return;
    }

    const slots = [];
    function slot(name, ...offers) {
        // The same page has the same slots, so that a reload finds what runs in each.
        const slot = new LiveSlot(`${location.pathname}#${slots.length + 1}`, name, offers);
        slots.push(slot);
        return slot.element;
    }

    function slotsOf({ lesson, run, step }) {
        const plain = { words: "Run", request: { lesson, run: "plain" } };
        plain.then = () => redraw(lesson);
        if (step) {
            return [slot(`step ${step}`, { words: "Check", request: { step } })];
        } else if (run === "plain") {
            return [slot(lesson, plain, { words: "Step", request: { lesson, run: "step" } })];
        } else if (run === "shell") {
            // A second place, for what is outside beside what is inside. No shell: outside is the
            // host.
            const inside = { words: "Stand inside", request: { lesson, run } };
            const beside = { ...plain, words: "Run beside it" };
            return [slot(`${lesson}, inside`, inside), slot(`${lesson}, again`, beside)];
        }
        return [slot(`${lesson} ${run}`, { words: "Run", request: { lesson, run } })];
    }

    for (const block of document.querySelectorAll(".run, .turn")) {
        block.append(liveElement("div", { className: "live" }, ...slotsOf(block.dataset)));
    }

    for (const { id, page } of sessions) {
        slots.find((slot) => slot.page === page)?.resume(id);
    }

    /** The picture of a lesson, with the numbers of this host. */
    async function redraw(lesson) {
        const figure = document.querySelector(`figure.map[data-lesson="${lesson}"]`);
        const answer = figure && await liveServer.ask("POST", `map/${lesson}`).catch(() => null);
        if (!answer) {
            return; // the book's own picture stays
        }
        const text = await answer.text();
        const drawn = new DOMParser().parseFromString(text, "image/svg+xml").documentElement;
        if (drawn.localName === "svg") {
            figure.querySelector("svg").replaceWith(document.importNode(drawn, true));
        }
    }

    // questions.js has said already whether it is right.
    document.addEventListener("submit", async (event) => {
        const { question } = event.target.closest("[data-question]")?.dataset ?? {};
        if (!question) {
            return;
        }
        const option = Number(event.target.querySelector("input:checked").value);
        const kept = await liveServer.ask("POST", "answers", { question, option })
            .then(() => "Kept.", (error) => `Not kept. ${error.message}`);
        event.target.querySelector("[role=status]").textContent += " " + kept;
    });

    document.addEventListener("server-gone", () => {
        changes?.close();
        slots.forEach((slot) => slot.disable());
        const words = "The book's server does not answer any more. Start it with cargo book, and " +
            "open the address that it prints.";
        const notice = liveElement("p", { className: "live-gone" }, words);
        notice.setAttribute("role", "alert");
        // What holds the text is a box that could scroll: in it nothing stays at the window's edge.
        document.querySelector(".page").append(notice);
    }, { once: true });

    // A browser has few connections to one server, so a page that nobody looks at has none.
    let changes;
    let built; // how often, when this page was loaded
    function listen() {
        changes?.close();
        if (document.hidden || liveServer.isGone) {
            return;
        }
        changes = new EventSource("/live/changed");
        changes.onmessage = ({ data }) => {
            built ??= data;
            if (data !== built) {
                location.reload();
            }
        };
        changes.onerror = () => liveServer.terminals().catch(() => {});
    }
    document.addEventListener("visibilitychange", listen);
    listen();
})();
