// Conversations as trees of turns, kept in this browser: editing a question or asking again makes a branch.
const NAME = "conversations";
const MAX_CONVERSATIONS = 50;

export class Conversations {
  constructor() {
    try {
      this.all = JSON.parse(localStorage.getItem(NAME)) ?? [];
    } catch {
      this.all = [];
    }
    this.current = null;
  }

  save() {
    this.all = this.all.slice(0, MAX_CONVERSATIONS);
    while (this.all.length) {
      try {
        return localStorage.setItem(NAME, JSON.stringify(this.all));
      } catch {
        this.all.pop(); // the storage is full: drop the oldest
      }
    }
    localStorage.removeItem(NAME);
  }

  remove(conversation) {
    this.all = this.all.filter((each) => each !== conversation);
    if (this.current === conversation) this.current = null;
    this.save();
  }

  /** Adds a turn below `parent`, null for the first, and returns it. */
  add(parent, turn) {
    if (!this.current) {
      this.current = { title: turn.content.slice(0, 80), turns: [], leaf: null };
      this.all.unshift(this.current);
    }
    const added = { ...turn, id: this.current.turns.length, parent };
    this.current.turns.push(added);
    this.current.leaf = added.id;
    return added;
  }

  /** Returns the turns from the first to `leaf`. */
  path(leaf = this.current?.leaf) {
    const turns = [];
    for (let id = leaf ?? null; id !== null; id = this.current.turns[id].parent) turns.unshift(this.current.turns[id]);
    return turns;
  }

  siblings(turn) {
    return this.current.turns.filter((each) => each.parent === turn.parent);
  }

  /** Selects the branch of `turn`, down to its newest turn. */
  selectBranch(turn) {
    let leaf = turn.id;
    for (;;) {
      const below = this.current.turns.filter((each) => each.parent === leaf);
      if (!below.length) break;
      leaf = below.at(-1).id;
    }
    this.current.leaf = leaf;
    this.save();
  }
}
