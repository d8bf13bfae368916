/**
 * Asks the endpoint that serves this page, and shows the decision before the first token.
 *
 * What a model writes may be an attack: it becomes text nodes only, and nothing here makes markup of a string.
 */

const $ = (id) => document.getElementById(id);
const PATHS = {
  refuse: "Path A: refused before thinking",
  think: "Path B: thought first",
  answer: "Answered without thinking",
};
const SETTINGS = { "max-tokens": "max_completion_tokens", temperature: "temperature", seed: "seed" };
const KEY = "presafe-key"; // where the tab keeps it
const SPOKEN_ANSWER = 500; // characters; a longer answer is announced, not read out
const NO_ANSWER = "There is no answer: later messages leave this turn out.";
const AT_THE_END = 48; // pixels from the end of a scroller that still count as following it

const count = (number) => number.toLocaleString("en-GB");
const fixed = (share) => share.toFixed(3);
const duration = (ms) => (ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`);

function element(tag, text) {
  const made = document.createElement(tag);
  made.textContent = text;
  return made;
}

const copyOf = (template) => $(template).content.firstElementChild.cloneNode(true);

/** Spoken to screen readers, once: a decision, an end. Never the tokens one by one. */
function announce(text) {
  $("status").append(element("p", text));
  while ($("status").children.length > 4) $("status").firstElementChild.remove();
}

// ---- Failures: what happened, what the endpoint says about it, what to do ----

class Failure extends Error {
  /** `help`: what a button beside it can do, "again" or "edit"; null where nothing here helps. */
  constructor(title, { detail = "", advice, status = null, help = "again" }) {
    super(title);
    Object.assign(this, { detail, advice, status, help });
  }
}

function failureOf(status, { message: detail = "", code = null, param = null }, retryAfter = null) {
  const wait = Number(retryAfter) > 0 ? `Wait ${Math.ceil(Number(retryAfter))} s, then try again.` : "Try again in a moment.";
  const failure = (title, advice, help = "again") => new Failure(title, { detail, advice, status, help });
  const numbered = (words) => (status === null ? `${words}.` : `${words} (${status}).`);
  const hasKey = sessionStorage.getItem(KEY) !== null;
  if (Object.values(SETTINGS).includes(param)) {
    return failure("The endpoint does not take this setting.", "Change it under “Settings”, then try again.");
  }
  if (status === 413 || code === "context_length_exceeded") {
    return failure("The conversation is too long.", "Send a shorter message, or start a new conversation.", "edit");
  }
  if (status === 504 || (status === null && code === "timeout")) {
    return failure("This took longer than the endpoint allows.", "Try again. For a shorter answer set “Most tokens” under “Settings”.");
  }
  switch (status) {
    case 400:
    case 422:
      return failure("The endpoint does not take this request.", "Change the message, or start a new conversation.", "edit");
    case 401:
      return hasKey
        ? failure("The endpoint does not accept this API key.", "Enter another one under “API key”.", null)
        : failure("The endpoint asks for an API key.", "Enter it under “API key”.", null);
    case 403:
      return hasKey
        ? failure("This API key may not do that.", "Enter another one under “API key”.", null)
        : failure("The endpoint, or what stands in front of it, forbids this.", "Ask who runs it.", null);
    case 404:
      return failure("The endpoint does not know this model or address.", "Try again: the page then asks which model there is.");
    case 408:
      return failure("The message did not reach the endpoint in time.", "Try again.");
    case 429:
      return failure("Too many requests with this key.", wait);
    case 503:
      return failure("The endpoint is busy, or still starting.", wait);
  }
  if (status !== null && status < 500) {
    return failure(numbered("The endpoint does not take this request"), "Ask who runs it.", null);
  }
  return failure(numbered("The endpoint failed"), "Try again. If it stays so, the endpoint's log says why.");
}

const BROKEN = {
  unreachable: ["The endpoint cannot be reached.", "Check that it is running and that you are online, then try again."],
  cut: ["The connection ended before the answer did.", "Try again."],
  unreadable: ["The endpoint sent something that is not JSON.", "Check what answers at this address, then try again."],
};
const broken = (how) => new Failure(BROKEN[how][0], { advice: BROKEN[how][1] });

/** A promise of the network's, its failure in words; a stop stays a stop. */
function reached(promise, otherwise) {
  return promise.catch((error) => {
    throw error.name === "AbortError" ? error : broken(otherwise);
  });
}

function parsed(json) {
  try {
    return JSON.parse(json);
  } catch {
    throw broken("unreadable");
  }
}

const HELP = { again: "Try again", edit: "Edit the message" };

/** `actions` has a function for each kind of help that can be given here. */
function showFailure(box, failure, actions) {
  const words = [element("strong", failure.message), element("p", failure.advice)];
  if (failure.detail) words.splice(1, 0, element("p", failure.detail));
  const act = actions[failure.help];
  if (act) {
    const button = element("button", HELP[failure.help]);
    button.type = "button";
    button.className = "help";
    button.addEventListener("click", act);
    words.push(button);
  }
  box.replaceChildren(...words);
  box.hidden = false;
}

// ---- The endpoint ----

class Endpoint {
  /** `kind` is what it is called beside another one; `url` ends with a slash. */
  constructor(kind, url) {
    Object.assign(this, { kind, url, id: null, presafe: {} });
  }

  /** Learn which model it serves. */
  async connect() {
    const reply = await this.#fetch("v1/models");
    const model = parsed(await reached(reply.text(), "cut")).data?.[0];
    if (model === undefined) throw broken("unreadable");
    this.id = model.id;
    this.presafe = model.presafe ?? {};
  }

  /** The chunks of one streamed answer. */
  async *ask(messages, settings, signal) {
    if (this.id === null) await this.connect();
    const body = { model: this.id, messages, stream: true, stream_options: { include_usage: true }, ...settings };
    const reply = await this.#fetch("v1/chat/completions", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(body),
      signal,
    });
    for await (const data of events(reply.body)) {
      if (data === "[DONE]") return;
      const chunk = parsed(data);
      if (chunk.error) throw failureOf(null, chunk.error);
      yield chunk;
    }
    throw broken("cut");
  }

  async #fetch(path, options = {}) {
    const key = sessionStorage.getItem(KEY);
    const headers = { ...options.headers, ...(key && { Authorization: `Bearer ${key}` }) };
    const reply = await reached(fetch(new URL(path, this.url), { ...options, headers }), "unreachable");
    if (reply.ok) return reply;
    const text = await reached(reply.text(), "cut");
    if (reply.status === 404) this.id = null; // what it serves has changed
    throw failureOf(reply.status, errorIn(text), reply.headers.get("Retry-After"));
  }
}

/** OpenAI's error object; a proxy in front of the endpoint may send plain text instead. */
function errorIn(text) {
  try {
    return JSON.parse(text).error ?? {};
  } catch {
    return { message: text.slice(0, 300) };
  }
}

/** The data of server-sent events. */
async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { value, done } = await reached(reader.read(), "cut");
      if (done) return;
      const whole = (rest + value).split(/\r?\n\r?\n/);
      rest = whole.pop();
      for (const event of whole) {
        const lines = event.split(/\r?\n/).filter((line) => line.startsWith("data:"));
        if (lines.length) yield lines.map((line) => line.slice(5).trimStart()).join("\n");
      }
    }
  } finally {
    reader.cancel().catch(() => {}); // already over, or stopped
  }
}

// ---- One answer on the page ----

class Answer {
  content = "";
  #reasoning = "";
  #waiting = { thought: "", text: "" };
  #frame = null;
  #begun = performance.now();
  #usage = null;
  #finishReason = null;
  #limit;
  #revealed;

  constructor(endpoint, settings) {
    this.#limit = settings[SETTINGS["max-tokens"]] ?? null;
    this.#revealed = endpoint.presafe.reveal_probability ?? true;
    this.name = aligned.base ? `${endpoint.kind}: ${endpoint.id}` : endpoint.id;
    this.element = copyOf("answer-template");
    this.#part("h3").textContent = this.name;
  }

  take(chunk) {
    const choice = chunk.choices?.[0];
    if (chunk.presafe && !this.element.dataset.path) stayingAtTheEnd(() => this.#decide(chunk.presafe));
    if (choice?.delta?.reasoning_content) this.#reason(choice.delta.reasoning_content);
    if (choice?.delta?.content) this.#say(choice.delta.content);
    this.#finishReason = choice?.finish_reason ?? this.#finishReason;
    this.#usage = chunk.usage ?? this.#usage;
  }

  finish() {
    stayingAtTheEnd(() => {
      this.#end();
      if (this.#usage) this.#tell("tokens", count(this.#usage.completion_tokens));
      const words = [this.#finishReason === "length" && this.#cut(), !this.content.trim() && NO_ANSWER].filter(Boolean);
      if (words.length) this.#note(words.join(" "));
    });
    if (!this.content.trim()) return;
    const spoken = this.content.length <= SPOKEN_ANSWER ? this.content : `answer of ${count(this.content.length)} characters`;
    announce(`${this.name} answered: ${spoken}`);
  }

  stop() {
    stayingAtTheEnd(() => {
      this.#end();
      this.#note(this.content.trim() ? "Stopped." : `Stopped. ${NO_ANSWER}`);
    });
  }

  fail(failure, actions) {
    this.#end();
    showFailure(this.#part(".error"), failure, actions);
    this.#part(".error").scrollIntoView({ block: "nearest" });
  }

  #cut() {
    if (this.#limit === null) return "Cut: the endpoint lets an answer to this conversation grow no longer.";
    return `Cut at ${count(this.#limit)} tokens, which is “Most tokens” under “Settings”.`;
  }

  #part(selector) {
    return this.element.querySelector(selector);
  }

  #decide({ path, refuse_probability: probability = null, threshold = null, gate, gate_path: gatePath = null }) {
    this.element.dataset.path = path;
    this.#part(".badge").textContent = PATHS[path];
    if (probability !== null) this.#measure(probability, threshold, gate);
    this.#part(".gate").textContent = gateInWords(gate, path, gatePath, this.#missing(probability));
    this.#tell("decided in", duration(performance.now() - this.#begun));
    announce(`${this.name}: ${PATHS[path]}${probability === null ? "" : `, probability of refusal ${fixed(probability)}`}`);
  }

  /** Why there is no probability; null where there is one. */
  #missing(probability) {
    if (probability !== null) return null;
    return this.#revealed ? "none" : "hidden";
  }

  #measure(probability, threshold, gate) {
    const meter = this.#part(".meter");
    this.#part(".measure").hidden = false;
    meter.style.setProperty("--probability", probability);
    meter.setAttribute("aria-valuenow", probability);
    meter.setAttribute("aria-valuetext", fixed(probability));
    this.#part(".probability").textContent = `Probability of refusal ${fixed(probability)}`;
    this.#part(".threshold").hidden = threshold === null;
    if (threshold === null) return;
    meter.style.setProperty("--threshold", threshold);
    meter.classList.toggle("idle", gate !== "on");
    this.#part(".threshold-number").textContent = `Threshold ${fixed(threshold)}`;
  }

  #reason(text) {
    this.#firstToken();
    this.#reasoning += text;
    this.#part(".reasoning").hidden = false;
    this.#write("thought", text);
  }

  #say(text) {
    this.#firstToken();
    this.content += text;
    this.#write("text", text);
  }

  #firstToken() {
    if (this.content || this.#reasoning) return;
    if (!this.element.dataset.path) this.#part(".decision").hidden = true; // an endpoint that tells of none
    this.#tell("first token after", duration(performance.now() - this.#begun));
  }

  /** Text waits for the next frame: one change of the page for however many tokens. */
  #write(where, text) {
    this.#waiting[where] += text;
    this.#frame ??= requestAnimationFrame(() => this.#flush());
  }

  #flush() {
    cancelAnimationFrame(this.#frame);
    this.#frame = null;
    const change = () => {
      for (const [where, text] of Object.entries(this.#waiting)) this.#part(`.${where}`).append(text);
      this.#part("summary").textContent = this.#summary();
    };
    stayingAtTheEnd(change, [document.scrollingElement, this.#part(".thought")]);
    this.#waiting = { thought: "", text: "" };
  }

  #summary() {
    const characters = `${count(this.#reasoning.length)} characters`;
    if (this.element.ariaBusy === "true" && !this.content) return `Thinking, ${characters}`;
    const tokens = this.#usage?.completion_tokens_details?.reasoning_tokens;
    return `Reasoning, ${tokens ? `${count(tokens)} tokens` : characters}`;
  }

  #end() {
    this.element.ariaBusy = "false";
    if (!this.element.dataset.path) this.#part(".decision").hidden = true;
    this.#flush();
    this.#part(".text").normalize(); // one text node of the many
    this.#part(".thought").normalize();
    this.#tell("took", duration(performance.now() - this.#begun));
  }

  #tell(what, value) {
    const row = document.createElement("div");
    row.append(element("dt", what), element("dd", value));
    this.#part(".counts").append(row);
  }

  #note(text) {
    this.#part(".note").textContent = text;
    this.#part(".note").hidden = false;
    announce(text);
  }
}

/** What the gate made of a message; `missing` is why no probability shows: "hidden", "none", or null. */
function gateInWords(gate, path, gatePath, missing) {
  const without = { hidden: " The probability is hidden.", none: " There is no probability.", null: "" }[missing];
  const lets = gatePath === "think";
  if (gate === "shadow") {
    return `Gate in shadow: it would ${lets ? "" : "not "}have let the model think. The model decided by itself.${without}`;
  }
  if (gate !== "on") return `Gate off: the model decided by itself.${without}`;
  const seen = lets ? "below the threshold, it let" : "at or above the threshold, it did not let";
  const unseen = lets ? "it let" : "it did not let";
  const then = {
    refuse: lets ? " The model refused by itself." : "",
    answer: lets ? " The model left its reasoning out by itself." : " The model answered behind a closed think block.",
    think: "",
  }[path];
  return `Gate on: ${missing === null ? seen : unseen} the model think.${then}${without}`;
}

/** What was folded comes into sight when it unfolds, as far as it fits. */
function showUnfolded({ target, newState }) {
  if (newState === "open" && target.matches(".reasoning")) target.scrollIntoView({ block: "nearest" });
}

const isAtTheEnd = (scroller) => scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < AT_THE_END;
const scrollToTheEnd = (scroller) => scroller.scrollTo({ top: scroller.scrollHeight, behavior: "instant" });

/** Change the page; who read its end still does, who scrolled back is left where they are. */
function stayingAtTheEnd(change, scrollers = [document.scrollingElement]) {
  const followed = scrollers.filter(isAtTheEnd);
  change();
  followed.forEach(scrollToTheEnd);
}

// ---- The conversation ----

const aligned = new Endpoint("Aligned", document.baseURI);
aligned.base = null;
let exchanges = []; // {prompt, element, answers: Map from endpoint to Answer}
let stopper = null; // of the answers that come now
let keyless = []; // [exchange, endpoint] of answers that wait for an API key

/** The turns before an exchange, without reasoning. The base is told the aligned model's turn where it has none. */
function messagesBefore(exchange, endpoint) {
  const before = exchanges.slice(0, exchanges.indexOf(exchange));
  const turns = before.flatMap(({ prompt, answers }) => {
    const said = [endpoint, aligned].map((each) => answers.get(each)?.content ?? "").find((text) => text.trim());
    return said ? [{ role: "user", content: prompt }, { role: "assistant", content: said }] : [];
  });
  return [...turns, { role: "user", content: exchange.prompt }];
}

async function send(prompt) {
  if (stopper) return;
  const exchange = { prompt, element: copyOf("exchange-template"), answers: new Map() };
  exchange.element.querySelector(".prompt").textContent = prompt;
  document.querySelectorAll(".exchange .help").forEach((button) => button.remove());
  keyless = [];
  exchanges.push(exchange);
  $("welcome").hidden = true;
  $("conversation").append(exchange.element);
  await answer(exchange, $("compare").checked ? [aligned, aligned.base] : [aligned]);
}

/** Ask endpoints for their answer to an exchange; an earlier one of theirs is replaced. */
async function answer(exchange, endpoints) {
  const mine = new AbortController();
  busy(mine);
  const settings = chosenSettings();
  const answering = endpoints.map((endpoint) => {
    const view = new Answer(endpoint, settings);
    const earlier = exchange.answers.get(endpoint);
    if (earlier) earlier.element.replaceWith(view.element);
    else exchange.element.querySelector(".answers").append(view.element);
    exchange.answers.set(endpoint, view);
    return stream(exchange, endpoint, view, settings, mine.signal);
  });
  scrollToTheEnd(document.scrollingElement);
  try {
    await Promise.all(answering);
  } finally {
    if (stopper === mine) busy(null);
  }
}

async function stream(exchange, endpoint, view, settings, signal) {
  try {
    for await (const chunk of endpoint.ask(messagesBefore(exchange, endpoint), settings, signal)) view.take(chunk);
    view.finish();
  } catch (failure) {
    if (!view.element.isConnected) return; // a new conversation has begun
    if (signal.aborted) return view.stop();
    if (!(failure instanceof Failure)) throw failure;
    view.fail(failure, {
      again: () => stopper ?? answer(exchange, [endpoint]),
      edit: () => edit(exchange.prompt),
    });
    if (failure.status !== 401) return;
    keyless.push([exchange, endpoint]);
    askForKey();
  }
}

function edit(prompt) {
  $("message").value = prompt;
  $("message").focus();
}

/** Show Stop in place of Send or the reverse. The keyboard's place does not vanish with a button. */
function busy(running) {
  const held = document.activeElement.closest("#send, #stop, .help, #examples") !== null;
  stopper = running;
  $("send").hidden = running !== null;
  $("stop").hidden = running === null;
  if (held) $(running ? "stop" : "send").focus();
}

function chosenSettings() {
  const given = Object.entries(SETTINGS).filter(([id]) => $(id).value !== "");
  return Object.fromEntries(given.map(([id, name]) => [name, $(id).valueAsNumber]));
}

/** Whether all settings can be sent; else the browser says at the first wrong one what is. */
function settingsAreValid() {
  const wrong = Object.keys(SETTINGS).find((id) => !$(id).checkValidity());
  if (wrong === undefined) return true;
  $("settings").open = true;
  return $(wrong).reportValidity();
}

// ---- Connecting ----

async function connect() {
  $("notice").hidden = true;
  try {
    await aligned.connect();
  } catch (failure) {
    if (!(failure instanceof Failure)) throw failure;
    showFailure($("notice"), failure, { again: connect });
    if (failure.status === 401) askForKey();
    return false;
  }
  introduce();
  const { compare_with: other = null } = aligned.presafe;
  if (other !== null) await connectBase(new URL(other.replace(/\/?$/, "/"), document.baseURI));
  return true;
}

async function connectBase(url) {
  const base = new Endpoint("Base", url);
  $("compare-choice").hidden = false;
  try {
    await base.connect();
    aligned.base = base;
    $("compare-state").textContent = "";
  } catch (failure) {
    if (!(failure instanceof Failure)) throw failure;
    $("compare-state").textContent = `(not now: ${failure.message})`;
  }
  $("compare").disabled = aligned.base === null;
}

/** Say what this endpoint is, and offer prompts of its model's own world where its card has some. */
function introduce() {
  const { gate, threshold = null, head = null, reveal_probability: revealed = true, examples = [] } = aligned.presafe;
  const at = threshold === null ? "" : ` at ${fixed(threshold)}`;
  const gates = { off: "gate off", on: `gate on${at}`, shadow: `gate in shadow${at}` };
  const heads = head === null ? "no head" : `${head} head`;
  const facts = [aligned.id, gates[gate], heads, !revealed && "probability hidden"].filter(Boolean);
  $("facts").replaceChildren(...facts.map((fact) => element("li", fact)));
  if (head === null) {
    $("welcome-title").textContent = "A model without PreSafe's alignment";
    $("lede").textContent = "It thinks or not as it was made to, and nothing gives a probability of refusal:";
  } else if (!revealed) {
    $("lede").textContent = "Each message gets a decision first; its probability is hidden here. Only then come words:";
  }
  if (examples.length) $("examples").replaceChildren(...examples.map(example));
}

function example({ kind, text }) {
  const button = element("button", text);
  button.type = "button";
  button.value = text;
  if (kind === "harmful") button.append(" ", element("small", "harmful"));
  const item = document.createElement("li");
  item.append(button);
  return item;
}

function askForKey() {
  $("access").open = true;
  $("key").focus();
}

async function useKey(event) {
  event.preventDefault();
  const key = $("key").value.trim();
  if (!key) return $("key").focus();
  sessionStorage.setItem(KEY, key);
  if (!(await connect())) return;
  $("key").value = "";
  $("access").open = false;
  $("message").focus();
  announce("The endpoint accepts the key.");
  const [waiting] = keyless;
  const endpoints = keyless.map(([, endpoint]) => endpoint);
  keyless = [];
  if (waiting && !stopper) answer(waiting[0], endpoints);
}

function forgetKey() {
  sessionStorage.removeItem(KEY);
  $("key").value = "";
  announce("The key is forgotten.");
}

// ---- What the reader does ----

function startAnew() {
  stopper?.abort();
  busy(null);
  exchanges = [];
  keyless = [];
  $("conversation").replaceChildren();
  $("welcome").hidden = false;
  $("message").focus();
  announce("New conversation.");
}

/** Whether a message can be sent now. Where not, the page says why, and the message stays in its box. */
async function ready() {
  return !stopper && settingsAreValid() && (aligned.id !== null || (await connect()));
}

$("composer").addEventListener("submit", async (event) => {
  event.preventDefault();
  const prompt = $("message").value.trim();
  if (!prompt) return $("message").focus();
  if (!(await ready())) return;
  $("message").value = "";
  send(prompt);
});
$("message").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  $("composer").requestSubmit();
});
$("examples").addEventListener("click", async ({ target }) => {
  const button = target.closest("button");
  if (button && (await ready())) send(button.value);
});
$("compare").addEventListener("change", () => document.body.classList.toggle("side-by-side", $("compare").checked));
$("new").addEventListener("click", startAnew);
$("stop").addEventListener("click", () => stopper?.abort());
document.addEventListener("keydown", (event) => event.key === "Escape" && stopper?.abort());
$("key-form").addEventListener("submit", useKey);
$("forget").addEventListener("click", forgetKey);
$("conversation").addEventListener("toggle", showUnfolded, { capture: true }); // it does not bubble
new ResizeObserver(() => {
  document.documentElement.style.setProperty("--footer", `${document.querySelector("footer").offsetHeight}px`);
}).observe(document.querySelector("footer"));
connect();
