// What every component is written with.
import htm from "htm";
import {h} from "preact";
import {useEffect, useState} from "preact/hooks";

export const html = htm.bind(h);

// A value that components watch.
export class Cell {
  #watchers = new Set();
  constructor(value) { this.value = value; }
  set(value) {
    if (value === this.value) return;
    this.value = value;
    for (const watch of this.#watchers) watch(value);
  }
  watch(watcher) {
    this.#watchers.add(watcher);
    return () => this.#watchers.delete(watcher);
  }
}

// The cell's value, now and, by rendering again, whenever it changes.
export function use(cell) {
  const [value, set] = useState(cell.value);
  useEffect(() => {
    set(cell.value);
    return cell.watch(set);
  }, [cell]);
  return value;
}

// A cell that is kept in this browser under a name. What cannot be read there counts as not there.
export function kept(name, value) {
  try {
    value = JSON.parse(localStorage.getItem(name)) ?? value;
  } catch {}
  const cell = new Cell(value);
  cell.watch((next) => {
    try {
      localStorage.setItem(name, JSON.stringify(next));
    } catch {
      storage_is_full.set(true);
    }
  });
  return cell;
}

export const storage_is_full = new Cell(false);
