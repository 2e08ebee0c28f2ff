// Vercel's `ai` against a server: `node ai_client.mjs URL MODEL PROVIDER` prints what came of each way to ask, as JSON.
import { createAnthropic } from "@ai-sdk/anthropic";
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateObject, generateText, Output, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";

const [url, name, provider] = process.argv.slice(2);
const keys = { baseURL: url, apiKey: "none" };
const compatible = { name: "moedge", supportsStructuredOutputs: true, includeUsage: true };
const model = {
  anthropic: () => createAnthropic(keys)(name),
  chat: () => createOpenAI(keys).chat(name),
  compatible: () => createOpenAICompatible({ ...compatible, ...keys })(name),
  responses: () => createOpenAI(keys)(name),
}[provider]();

const calls = [];
const set_light = tool({
  description: "Turn a light on or off",
  inputSchema: z.object({ room: z.string(), on: z.boolean() }),
  execute: async (input) => {
    calls.push(input);
    return "ok";
  },
});
const schema = z.object({ room: z.enum(["kitchen", "hall"]), on: z.boolean() });
const asked = { model, prompt: "turn on the kitchen light", temperature: 0, maxOutputTokens: 400, maxRetries: 0 };
const withTools = { ...asked, tools: { set_light }, stopWhen: stepCountIs(4) };
const typed = { ...asked, output: Output.object({ schema }) };
const failures = [];
const onError = ({ error }) => failures.push(String(error));

async function read(parts) {
  const found = [];
  for await (const part of parts) found.push(part);
  return found;
}

const whole = await generateText(withTools);
const streamed = streamText({ ...withTools, onError });
const text = (await read(streamed.textStream)).join("");
const growing = streamText({ ...typed, onError });
const halves = await read(growing.partialOutputStream);
const forced = await generateText({ ...asked, prompt: "hello", tools: { set_light }, toolChoice: "required" });
const named = { type: "tool", toolName: "set_light" };
const chosen = await generateText({ ...asked, prompt: "hello", tools: { set_light }, toolChoice: named });
const loops = [
  { text: whole.text, steps: whole.steps.length },
  { text, steps: (await streamed.steps).length },
];
const objects = [
  (await generateText(typed)).output,
  await growing.output,
  halves.at(-1),
  (await generateObject({ ...asked, schema })).object,
];
const finished = [whole.finishReason, await streamed.finishReason, forced.finishReason, chosen.finishReason];
const tokens = (await streamed.totalUsage).outputTokens;
console.log(JSON.stringify({ loops, calls, objects, finished, tokens, failures }));
