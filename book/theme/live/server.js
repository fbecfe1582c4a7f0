// What the page asks of the server that it came from, and what it says when the answer is no.
"use strict";

const liveServer = {
    /** Does it answer this page no more? Then it never will: a new start has a new address. */
    isGone: false,

    /** Asks for `/live/PATH`. Anything but a success is an Error with words for the reader. */
    async ask(method, path, body) {
        const headers = { "Content-Type": "application/json" };
        const request = body ? { method, headers, body: JSON.stringify(body) } : { method };
        // A loopback address at which nobody listens fails at once: to try again is of no use.
        const answer = await fetch("/live/" + path, request).catch(() => null);
        if (!answer || answer.status === 401) {
            this.isGone = true;
            document.dispatchEvent(new Event("server-gone"));
            throw new Error("The book's server is gone.");
        }
        if (!answer.ok) {
            throw new Error((await answer.text()).trim() || `The server says ${answer.status}.`);
        }
        return answer;
    },

    /** The terminals that run. */
    async terminals() {
        return (await this.ask("GET", "terminals")).json();
    },
};
