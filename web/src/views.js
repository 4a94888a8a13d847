// Which part of the page a narrow screen shows, and which panel stands beside the conversation on a wider one.
import {Cell, kept} from "./html.js";

export const views = [["chat", "Chat"], ["chats", "Chats"], ["machine", "Machine"], ["settings", "Settings"]];
export const view = new Cell("chat");
export const panel = kept("moiety.panel", "machine");

export function show(name) {
  view.set(name);
  if (name !== "chat") panel.set(name);
}
