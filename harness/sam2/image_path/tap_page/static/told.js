// What both pages tell beside the pictures: a sentence, and how far some work is.

export const by = (id) => document.getElementById(id);

export function alert(sentence) {
  by("alert").textContent = sentence;
  by("alert").hidden = !sentence;
}

export function progress(work) {
  const done = !work || "result" in work || work.error;
  by("progress").hidden = done;
  if (done) return;
  by("stage").textContent = work.stage;
  by("share").value = work.share;
  by("seconds").textContent = work.seconds >= 1 ? `${work.seconds.toFixed(0)} s` : "";
}
