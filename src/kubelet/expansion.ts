// `$(VAR)` in commands, arguments and values, as upstream expands it (third_party/forked/golang/expansion): `$$` is a
// dollar sign, and a reference to what does not exist stays as it was written.

export function expand(input: string, lookup: (name: string) => string | undefined): string {
  let output = '';
  let copied = 0;
  for (let at = input.indexOf('$'); at >= 0 && at + 1 < input.length; at = input.indexOf('$', at)) {
    output += input.slice(copied, at);
    const next = input[at + 1]!;
    let consumed = 2;
    if (next === '$') output += '$';
    else if (next === '(') {
      const end = input.indexOf(')', at + 2);
      if (end < 0) output += '$(';
      else {
        const name = input.slice(at + 2, end);
        output += lookup(name) ?? `$(${name})`;
        consumed = end - at + 1;
      }
    } else output += `$${next}`;
    at += consumed;
    copied = at;
  }
  return output + input.slice(copied);
}
