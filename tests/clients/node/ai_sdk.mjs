// The AI SDK with its provider for OpenAI-compatible endpoints.
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateText, streamText } from "ai";
import { idle, model, print, prompt, url } from "./asked.mjs";

const provider = createOpenAICompatible({ name: "presafe", baseURL: `${url}/v1`, apiKey: "none" });
const request = { model: provider(model), prompt, temperature: 0, maxRetries: 0 };

await print({
  async chat() {
    const { text, reasoningText = "", finishReason } = await generateText(request);
    return { answer: text, reasoning: reasoningText, finishReason };
  },
  async stream() {
    const said = { answer: "", reasoning: "" };
    for await (const part of streamText({ ...request, onError() {} }).fullStream) {
      if (part.type === "text-delta") said.answer += part.text;
      if (part.type === "reasoning-delta") said.reasoning += part.text;
      if (part.type === "error") throw part.error;
    }
    return said;
  },
  async abort() {
    const leaving = new AbortController();
    let aborted = false;
    for await (const part of streamText({ ...request, abortSignal: leaving.signal }).fullStream) {
      if (part.type === "reasoning-delta") leaving.abort();
      aborted ||= part.type === "abort";
    }
    return { aborted, ...(await idle()) };
  },
});
