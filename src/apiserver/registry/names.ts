// Names made from `generateName`: the prefix, cut to leave room, and five characters of an alphabet without vowels
// and look-alikes, so that no word comes out by chance.

const ALPHABET = 'bcdfghjklmnpqrstvwxz2456789';
const SUFFIX_LENGTH = 5;
const MOST_LENGTH = 63;

/** How often a name that was taken is made anew before the client is told (KEP-4420). */
export const NAME_ATTEMPTS = 8;

/** `random` gives numbers in [0, 1). */
export function generateName(base: string, random: () => number): string {
  let name = base.slice(0, MOST_LENGTH - SUFFIX_LENGTH);
  for (let i = 0; i < SUFFIX_LENGTH; i++) name += ALPHABET[Math.floor(random() * ALPHABET.length)];
  return name;
}
