// Installs the dependencies of one of the private packages below, unless they are there already.

import { execFileSync } from 'node:child_process';
import { existsSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const folder = join(dirname(dirname(fileURLToPath(import.meta.url))), process.argv[2]);
const lock = join(folder, 'package-lock.json');
const installed = join(folder, 'node_modules', '.package-lock.json');

if (!existsSync(installed) || statSync(installed).mtimeMs < statSync(lock).mtimeMs) {
  execFileSync('npm', ['ci'], { cwd: folder, stdio: 'inherit' });
}
