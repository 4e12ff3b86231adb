// The keyboard: what each key does, and the list that says so.

export const KEYS = [
  [["P"], "a click is a point on the object"],
  [["N"], "a point beside it; Shift and click is one too"],
  [["B"], "a drag is a box around it"],
  [["M", "Space"], "a drag moves the photo; Space while it is held"],
  [["O"], "another object"],
  [["[", "]"], "the object before and after"],
  [["U", "R"], "undo, and do again; Ctrl-Z too"],
  [["Delete"], "clear the object"],
  [["+", "-", "0"], "zoom in, out, whole photo; the wheel too"],
  [["D", "E"], "next decoder, next back end"],
  [["F"], "next photo of the folder"],
  [["← ↑ ↓ →"], "on a picture: move a cross; with Shift by single pixels"],
  [["Enter"], "tap at the cross; with Shift beside the object"],
  [["?"], "this list"],
];

const PLAIN = {
  p: "positive", n: "negative", b: "box", m: "move", o: "another", "]": "next", "[": "previous", u: "undo", r: "redo",
  Delete: "clear", Backspace: "clear", "+": "in", "=": "in", "-": "out", 0: "fit", d: "decoder", e: "back_end", f: "photo", "?": "help",
};
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

export function shortcuts(act) {
  document.addEventListener("keydown", (event) => {
    const typing = event.target.closest?.("select, input[type=text], dialog");
    if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "z") {
      event.preventDefault();
      (event.shiftKey ? act.redo : act.undo)();
      return;
    }
    if (event.ctrlKey || event.metaKey || event.altKey || (typing && event.key !== "?")) return;
    const on_canvas = act.on_canvas();
    if (on_canvas && ARROWS[event.key]) {
      const far = event.shiftKey ? 1 : 10;
      act.cross(...ARROWS[event.key].map((step) => step * far));
    } else if (on_canvas && event.key === "Enter") {
      act.tap(event.shiftKey);
    } else if (event.key === " " && !event.target.closest?.("button, input, a")) {
      act.space(true);
    } else if (event.key in PLAIN || event.key.toLowerCase() in PLAIN) {
      act[PLAIN[event.key] ?? PLAIN[event.key.toLowerCase()]]();
    } else {
      return;
    }
    event.preventDefault();
  });
  document.addEventListener("keyup", (event) => { if (event.key === " ") act.space(false); });
  window.addEventListener("blur", () => act.space(false));
}
