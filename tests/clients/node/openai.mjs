// OpenAI's client for Node.
import OpenAI from "openai";
import { idle, model, print, prompt, url } from "./asked.mjs";

const { completions } = new OpenAI({ baseURL: `${url}/v1`, apiKey: "none", maxRetries: 0 }).chat;
const request = { model, temperature: 0, messages: [{ role: "user", content: prompt }] };

await print({
  async chat() {
    const { message } = (await completions.create(request)).choices[0];
    return { answer: message.content, reasoning: message.reasoning_content, refusal: message.refusal };
  },
  async stream() {
    const said = { answer: "", reasoning: "" };
    for await (const { choices } of await completions.create({ ...request, stream: true })) {
      said.answer += choices[0].delta.content ?? "";
      said.reasoning += choices[0].delta.reasoning_content ?? "";
    }
    return said;
  },
  async abort() {
    const leaving = new AbortController();
    const stream = await completions.create({ ...request, stream: true }, { signal: leaving.signal });
    for await (const _ of stream) leaving.abort();
    return { aborted: stream.controller.signal.aborted, ...(await idle()) };
  },
});
