// Lets the reader choose an option of a question. Without this script a question is a heading, a
// text, a list of options and a folded answer. Nothing is stored.
"use strict";

(() => {
    function element(name, properties) {
        return Object.assign(document.createElement(name), properties);
    }

    document.querySelectorAll("section.question").forEach((question, nth) => {
        const name = "question-" + nth;
        const heading = question.querySelector("h3");
        const options = question.querySelector(":scope > ul");
        const answer = question.querySelector(":scope > details");

        options.querySelectorAll("li").forEach((option, number) => {
            const label = element("label");
            const radio = element("input", { type: "radio", name, required: true });
            radio.value = number + 1;
            label.append(radio, " ", ...option.childNodes);
            option.append(label);
        });

        const legend = element("legend", { id: name, textContent: "What do you say?" });
        const choice = element("fieldset");
        choice.setAttribute("aria-labelledby", heading.id + " " + legend.id);
        const said = element("p");
        said.setAttribute("role", "status"); // a screen reader says what changes in here

        const form = element("form");
        options.replaceWith(form);
        choice.append(legend, options, element("button", { textContent: "My answer" }));
        form.append(choice, said);

        form.addEventListener("submit", (event) => {
            event.preventDefault();
            const chosen = form.elements[name].value;
            said.textContent = chosen === question.dataset.right ? "As you said." : "Not so.";
            answer.open = true;
        });
        // What was said of another option is not said of this one.
        form.addEventListener("change", () => {
            said.textContent = "";
        });
    });
})();
