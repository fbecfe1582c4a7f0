// A place in the page where something can be run: its buttons, what is said of it, its terminal.
"use strict";

function liveElement(name, properties, ...content) {
    const element = Object.assign(document.createElement(name), properties);
    element.append(...content);
    return element;
}

class LiveSlot {
    #terminal;
    #id;

    /**
     * `name` says in words what is run here. Each of the `offers` has the words on its button, what
     * it asks of the server, and maybe what comes after a run that has ended well.
     */
    constructor(page, name, offers) {
        this.page = page;
        this.name = name;
        this.buttons = offers.map((offer) => this.#button(offer.words, () => this.start(offer)));
        this.stop = this.#button("Stop", () => this.#end());
        this.stop.hidden = true;
        this.status = liveElement("span", { tabIndex: -1 });
        this.status.setAttribute("role", "status"); // a screen reader says what changes in here
        // The class of a block of code, for its colours.
        this.screen = liveElement("div", { className: "live-screen hljs" });
        const keys = "Ctrl-Shift-L leaves the terminal, Ctrl-Shift-C copies, Ctrl-Shift-V pastes.";
        this.keys = liveElement("p", { className: "live-keys", tabIndex: -1 }, keys);
        this.opened = liveElement("div", { hidden: true }, this.screen, this.keys);
        const row = [...this.buttons, this.stop, this.status].flatMap((part) => [part, " "]);
        this.element = liveElement("section", { className: "live-slot" },
            liveElement("p", {}, ...row), this.opened);
        this.element.setAttribute("aria-label", `Live: ${name}`);
    }

    #button(words, pressed) {
        const button = liveElement("button", { type: "button" }, words);
        button.setAttribute("aria-label", `${words}: ${this.name}`);
        button.addEventListener("click", pressed);
        return button;
    }

    disable() {
        this.buttons.forEach((button) => button.disabled = true);
    }

    async start({ request, then }) {
        const isWell = await this.#occupied(async () => {
            const [cols, rows] = this.#terminal.size;
            const wanted = { ...request, page: this.page, cols, rows };
            const answer = await liveServer.ask("POST", "terminals", wanted);
            this.#id = (await answer.json()).id;
            this.#terminal.focus();
            return this.#show();
        });
        if (isWell) {
            then?.();
        }
    }

    /** Shows a session that runs already. */
    resume(id) {
        return this.#occupied(() => {
            this.#id = id;
            return this.#show();
        });
    }

    #open() {
        // The words below it: Tab goes on from there.
        const leave = () => this.keys.focus();
        return LiveTerminal.open(this.screen, `Terminal: ${this.name}`, leave);
    }

    async #show() {
        this.stop.hidden = false;
        this.status.textContent = "Running.";
        const { words, isWell } = await this.#terminal.show(this.#id);
        this.status.textContent = words;
        return isWell;
    }

    /**
     * One run at a time. Whoever was in the terminal is at the words beside the buttons when it has
     * ended, not at a button: an Enter too many would start the lesson again. Gives whether the
     * run has ended well.
     */
    async #occupied(run) {
        this.disable();
        this.status.textContent = "";
        this.opened.hidden = false;
        let [isWell, returns] = [false, true];
        try {
            this.#terminal ??= await this.#open();
            isWell = await run();
            returns = this.#terminal.hasFocus || document.activeElement === this.stop;
        } catch (error) {
            this.status.textContent = error.message;
            this.opened.hidden = !this.#id;
        }
        this.stop.hidden = true;
        this.buttons.forEach((each) => each.disabled = liveServer.isGone);
        if (returns) {
            this.status.focus({ preventScroll: true });
        }
        return isWell;
    }

    async #end() {
        try {
            await liveServer.ask("DELETE", `terminals/${this.#id}`);
        } catch (error) {
            this.status.textContent = error.message;
        }
    }
}
