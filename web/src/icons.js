// Line drawings on a grid of 20.
import {html} from "./html.js";

const paths = {
  send: "M10 16V4M5 9l5-5 5 5",
  stop: "M6 6h8v8H6z",
  copy: "M7 7h9v9H7zM13 7V4H4v9h3",
  done: "M4 10.5l4 4 8-9",
  again: "M16 10a6 6 0 1 1-2-4.5M16.5 3v4h-4",
  edit: "M4 16l1-4 8.5-8.5 3 3L8 15z",
  plus: "M10 4v12M4 10h12",
  close: "M5 5l10 10M15 5L5 15",
  trash: "M4 6h12M8 6V4h4v2M6 6l.7 10h6.6L14 6",
  chat: "M3.5 4.5h13v9H9l-3.5 3v-3h-2z",
  chats: "M4 5.5h12M4 10h12M4 14.5h8",
  machine: "M3 11h3l2-6 4 10 2-4h3",
  settings: "M3 6h7M14 6h3M3 14h3M10 14h7M12 4v4M8 12v4",
  experts: "M4 4h5v5H4zM11 4h5v5h-5zM4 11h5v5H4zM11 11h5v5h-5z",
  light: "M10 6.5a3.5 3.5 0 1 1 0 7 3.5 3.5 0 0 1 0-7zM10 2v1.5M10 16.5V18M2 10h1.5M16.5 10H18M4.3 4.3l1.1 1.1M14.6 14.6l1.1 1.1M4.3 15.7l1.1-1.1M14.6 5.400l1.1-1.1",
  dark: "M15.5 12.2A6.5 6.5 0 0 1 7.800 4.5a6.5 6.5 0 1 0 7.7 7.7z",
  system: "M3 4.5h14v9H3zM7.5 16.5h5M10 13.5v3",
  down: "M10 4v12M5 11l5 5 5-5",
};

export const Icon = ({name}) => html`<svg class="icon" data-name=${name} viewBox="0 0 20 20" aria-hidden="true"><path d=${paths[name]} /></svg>`;
