// What the page asks the server. Every refusal is a sentence, thrown as an Error.

async function sentence(reply) {
  const text = await reply.text();
  try { return JSON.parse(text).error ?? text; } catch { return text.trim() || `The server said ${reply.status}.`; }
}

async function asked(path, options) {
  let reply;
  try {
    reply = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The server does not answer; it was ended, perhaps. Start `harness sam2 serve` again.");
  }
  if (!reply.ok) throw new Error(await sentence(reply));
  return reply;
}

const post = (path, body, signal) =>
  asked(path, { method: "POST", body: JSON.stringify(body), headers: { "Content-Type": "application/json" }, signal });

export const get = async (path) => (await asked(path)).json();

// A picture that can be drawn. `name` is what it is called where the browser cannot read it.
export async function picture(path, name) {
  const made = new Image();
  const address = URL.createObjectURL(await (await asked(path)).blob());
  made.src = address;
  try {
    await made.decode();
  } catch {
    throw new Error(`${name} cannot be shown.`);
  } finally {
    URL.revokeObjectURL(address);
  }
  return made;
}

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

// Follow a piece of work to its end; `tell` hears how far it is.
export async function followed(work, tell) {
  for (let wait = 60; ; wait = Math.min(wait * 1.3, 400)) {
    tell(work);
    if (work.error) throw new Error(work.error);
    if ("result" in work) return work.result;
    await pause(wait);
    work = await get(`work/${work.id}`);
  }
}

export const begin = async (path, body) => (await post(path, body)).json();

// Ask for one object's masks; `tell` gets each line of the answer as it comes. Gives the work that is to be done first,
// where there is some.
export async function tapped(body, tell, signal) {
  const reply = await post("tap", body, signal);
  if (reply.status === 202) return (await reply.json()).work;
  const reader = reply.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return null;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines) tell(JSON.parse(line));
  }
}
