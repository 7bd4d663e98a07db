// How texts of /proc write names that contain what would break their lines.

/** comm in stat and status: newline and backslash escaped (proc_task_name). */
export function escapeName(name: string): string {
  return name.replace(/\\/g, '\\\\').replace(/\n/g, '\\n');
}

/** Paths in maps and the like: newlines as octal. */
export function escapePath(path: string): string {
  return path.replace(/\n/g, '\\012');
}
