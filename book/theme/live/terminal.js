// A terminal in the page: xterm.js draws what a session of the server says.
"use strict";

class LiveTerminal {
    // Most runs have less than 36. All of it, and some of the text, is in the window.
    static rows = { least: 24, most: 36, ofWindow: 0.75 };
    // The code with which the server leaves a page when another one shows the same session.
    static taken = 4001;
    // Larger messages the server does not take.
    static most = 16 * 1024;

    #place;
    #leave;
    #screen;
    #fit;
    #socket;

    /** An empty terminal in `place`. The first one loads xterm.js. `leave` takes the focus away. */
    static async open(place, label, leave) {
        const [{ Terminal }, { FitAddon }] = await Promise.all([
            import("/live/xterm/xterm.mjs"),
            import("/live/xterm/addon-fit.mjs"),
            LiveTerminal.#style("/live/xterm/xterm.css"),
        ]);
        const screen = new Terminal({
            fontFamily: getComputedStyle(place).fontFamily,
            minimumContrastRatio: 4.5,
            // At 1 a row cuts off the underscore of DejaVu Sans Mono, and of others.
            lineHeight: 1.2,
            screenReaderMode: true,
            scrollback: 5000,
        });
        screen.open(place);
        screen.textarea.setAttribute("aria-label", `${label}. Ctrl-Shift-L leaves it.`);
        return new LiveTerminal(place, leave, screen, new FitAddon());
    }

    static #style(href) {
        if (document.querySelector(`link[href="${href}"]`)) {
            return null;
        }
        const link = Object.assign(document.createElement("link"), { rel: "stylesheet", href });
        document.head.append(link);
        return new Promise((resolve) => {
            link.onload = link.onerror = resolve;
        });
    }

    constructor(place, leave, screen, fit) {
        this.#place = place;
        this.#leave = leave;
        this.#screen = screen;
        this.#fit = fit;
        screen.loadAddon(fit);
        screen.attachCustomKeyEventHandler((event) => this.#isForShell(event));
        // The page has keys of its own, such as one for its search. In here they are the shell's.
        place.addEventListener("keydown", (event) => event.stopPropagation());
        screen.onData((text) => this.#type(new TextEncoder().encode(text)));
        screen.onResize(() => this.#tell({ size: this.size }));
        new ResizeObserver(() => this.#resize()).observe(place);
        addEventListener("resize", () => this.#resize()); // of the window, which may be its height
        // A theme is a class of the root.
        const theme = new MutationObserver(() => this.#paint());
        theme.observe(document.documentElement, { attributeFilter: ["class"] });
        this.#paint();
        this.#resize();
    }

    get size() {
        return [this.#screen.cols, this.#screen.rows];
    }

    get hasFocus() {
        return this.#place.contains(document.activeElement);
    }

    focus() {
        this.#screen.focus();
    }

    /**
     * Shows a session to its end, also over a line that drops. Gives what to say of the end, and
     * whether the program has ended well.
     */
    async show(id) {
        for (;;) {
            this.#screen.reset(); // the server says everything once more
            const { ended, code, wasOpen } = await this.#talk(id);
            if (ended !== undefined) {
                this.#screen.write("\x1b[?25l"); // no cursor where nothing can be typed
                const words = typeof ended === "number"
                    ? `Ended, exit status ${ended}.`
                    : `Ended by ${ended}.`;
                return { words, isWell: ended === 0 };
            }
            if (code === LiveTerminal.taken) {
                return { words: "This terminal is on another page now.", isWell: false };
            }
            const isLive = (await liveServer.terminals()).some((session) => session.id === id);
            if (!isLive || !wasOpen) {
                return { words: "Ended.", isWell: false };
            }
        }
    }

    /** One connection, from its start to its end. */
    #talk(id) {
        const socket = new WebSocket(`ws://${location.host}/live/terminals/${id}`);
        socket.binaryType = "arraybuffer";
        this.#socket = socket;
        let wasOpen = false;
        let ended;
        return new Promise((resolve) => {
            socket.onopen = () => {
                wasOpen = true;
                this.#tell({ size: this.size });
            };
            socket.onmessage = ({ data }) => {
                if (typeof data === "string") {
                    ended = JSON.parse(data).ended;
                    socket.close();
                } else {
                    // The server waits for those who draw more slowly than it sends.
                    const seen = () => this.#tell({ seen: data.byteLength });
                    this.#screen.write(new Uint8Array(data), seen);
                }
            };
            socket.onclose = ({ code }) => resolve({ ended, code, wasOpen });
        });
    }

    #tell(message) {
        this.#send(JSON.stringify(message));
    }

    #type(bytes) {
        for (let at = 0; at < bytes.length; at += LiveTerminal.most) {
            this.#send(bytes.subarray(at, at + LiveTerminal.most));
        }
    }

    #send(message) {
        if (this.#socket?.readyState === WebSocket.OPEN) {
            this.#socket.send(message);
        }
    }

    /** The keys that are not the shell's. All others are, Tab and Esc, too. */
    #isForShell(event) {
        const act = {
            KeyC: () => this.#copy(),
            KeyL: () => this.#leave(),
        }[event.code];
        if (event.key === "Tab") {
            event.preventDefault(); // xterm.js lets the browser have Shift-Tab, too
        }
        if (!(event.ctrlKey && event.shiftKey && act)) {
            return true;
        }
        if (event.type === "keydown") {
            event.preventDefault(); // else the browser has it, too
            act();
        }
        return false;
    }

    #copy() {
        if (this.#screen.hasSelection()) {
            navigator.clipboard.writeText(this.#screen.getSelection());
        }
    }

    #resize() {
        this.#screen.options.fontSize = parseFloat(getComputedStyle(this.#place).fontSize);
        const fitting = this.#fit.proposeDimensions();
        const height = this.#place.querySelector(".xterm-screen").clientHeight;
        if (fitting?.cols && height) { // none while it is hidden
            const { least, most, ofWindow } = LiveTerminal.rows;
            // A row has whole pixels of the screen. The height of all of them is rounded.
            const pixels = Math.round(height * devicePixelRatio / this.#screen.rows);
            const rows = Math.floor(ofWindow * innerHeight * devicePixelRatio / pixels);
            this.#screen.resize(fitting.cols, Math.min(Math.max(rows, least), most));
        }
    }

    #paint() {
        const { color, backgroundColor } = getComputedStyle(this.#place);
        this.#screen.options.theme = {
            background: backgroundColor,
            foreground: color,
            cursor: color,
            cursorAccent: backgroundColor,
            selectionBackground: color,
            selectionForeground: backgroundColor,
        };
    }
}
