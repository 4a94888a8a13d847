// Light, dark, or as the system has it.
import {kept} from "./html.js";

export const themes = ["system", "light", "dark"];
export const theme = kept("moiety.theme", "system");
const system = matchMedia("(prefers-color-scheme: dark)");
const still = matchMedia("(prefers-reduced-motion: reduce)");

export const is_dark = () => theme.value === "dark" || (theme.value !== "light" && system.matches);
export const is_still = () => still.matches;

export function follow_theme() {
  const show = () => document.documentElement.style.setProperty("color-scheme", theme.value === "system" ? "light dark" : theme.value);
  theme.watch(show);
  show();
}

// Calls `changed` whenever light becomes dark or the other way round; returns what ends that.
export function on_theme(changed) {
  system.addEventListener("change", changed);
  const end = theme.watch(changed);
  return () => {
    system.removeEventListener("change", changed);
    end();
  };
}
