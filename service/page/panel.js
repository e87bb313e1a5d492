// A panel is waiting, filled, empty or failed; after a failure its old content stays, marked as stale.

import { element, text } from "./dom.js";
import { hhmmss } from "./format.js";

export class Panel {
  /** @param section its element; @param body where its content goes, by default its .panel-body */
  constructor(section, body = section.querySelector(".panel-body")) {
    this.section = section;
    this.body = body;
    this.wait();
  }

  /** Show only that an answer is awaited. */
  wait() {
    this.filledAt = null;
    this.section.setAttribute("aria-busy", "true");
    this.body.replaceChildren(text("p", "blank waiting", "loading …"));
  }

  /** Show a settled promise: `draw` fills the body, and returns a text if there is nothing to show. */
  show(settled, draw) {
    this.section.setAttribute("aria-busy", "false");
    this.section.querySelector(".stale")?.remove();
    if (settled.status === "rejected") {
      this.#fail(settled.reason.message);
      return;
    }
    const nothing = draw(settled.value, this.body);
    this.filledAt = nothing ? null : Date.now();
    this.section.dataset.state = nothing ? "empty" : "filled";
    if (nothing) this.body.replaceChildren(text("p", "blank", nothing));
  }

  #fail(message) {
    if (this.filledAt === null) {
      this.section.dataset.state = "error";
      this.body.replaceChildren(text("p", "blank fault", message));
      return;
    }
    this.section.dataset.state = "stale";
    this.section.prepend(element("p", { class: "stale" }, `As of ${hhmmss(this.filledAt)}. ${message}`));
  }
}
