// Line drawings on a grid of 20.
import {html} from "./html.js";

const paths = {
  send: "M10 16V4M5 9l5-5 5 5",
  stop: "M6 6h8v8H6z",
  copy: "M7 7h9v9H7zM13 7V4H4v9h3",
  done: "M4 10.5l4 4 8-9",
  again: "M16 10a6 6 0 1 1-2-4.5M16.500 3v4h-4",
  edit: "M4 16l1-4 8.500-8.500 3 3L8 15z",
  plus: "M10 4v12M4 10h12",
  close: "M5 5l10 10M15 5L5 15",
  trash: "M4 6h12M8 6V4h4v2M6 6l.7 10h6.600L14 6",
  chat: "M3.500 4.500h13v9H9l-3.500 3v-3h-2z",
  chats: "M4 5.500h12M4 10h12M4 14.500h8",
  machine: "M3 11h3l2-6 4 10 2-4h3",
  settings: "M3 6h7M14 6h3M3 14h3M10 14h7M12 4v4M8 12v4",
  experts: "M4 4h5v5H4zM11 4h5v5h-5zM4 11h5v5H4zM11 11h5v5h-5z",
  light: "M10 6.500a3.500 3.500 0 1 1 0 7 3.500 3.500 0 0 1 0-7zM10 2v1.500M10 16.500V18M2 10h1.500M16.500 10H18M4.300 4.300l1.100 1.100M14.600 14.600l1.100 1.100M4.300 15.700l1.100-1.100M14.600 5.400l1.100-1.100",
  dark: "M15.500 12.200A6.500 6.500 0 0 1 7.800 4.500a6.500 6.500 0 1 0 7.700 7.700z",
  system: "M3 4.500h14v9H3zM7.500 16.500h5M10 13.500v3",
  down: "M10 4v12M5 11l5 5 5-5",
};

export const Icon = ({name}) => html`<svg class="icon" viewBox="0 0 20 20" aria-hidden="true"><path d=${paths[name]} /></svg>`;
