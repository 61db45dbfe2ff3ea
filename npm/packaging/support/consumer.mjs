import { execFile } from 'node:child_process';
import { cpSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const run = promisify(execFile);
const folder = dirname(dirname(fileURLToPath(import.meta.url)));

/** The packed package, and a project that has installed it. */
export class Consumer {
  /** The project. */
  path;
  /** Where its tools put what they make. */
  output;
  /** The files in the package, and how large they are. */
  files;
  #root;

  static async create() {
    const consumer = new Consumer();
    consumer.#root = mkdtempSync(join(tmpdir(), 'fanfare-packaging-'));
    consumer.path = join(consumer.#root, 'project');
    consumer.output = join(consumer.#root, 'output');
    cpSync(join(folder, 'app'), consumer.path, { recursive: true });
    const pack = ['pack', '--json', '--pack-destination', consumer.path];
    const { stdout } = await run('npm', pack, { cwd: dirname(folder) });
    const packed = JSON.parse(stdout);
    // npm 11 answers with an object by name where earlier ones answer with a list.
    const [{ filename, files }] = Array.isArray(packed) ? packed : Object.values(packed);
    consumer.files = files;
    writeFileSync(join(consumer.path, 'package.json'), JSON.stringify({ private: true, type: 'module' }));
    const install = ['install', '--offline', '--no-audit', '--no-fund', '--install-links=false'];
    await run('npm', [...install, `./${filename}`, join(folder, 'node_modules/ws')], { cwd: consumer.path });
    return consumer;
  }

  /** Makes a package of the tests one of the project. */
  link(name) {
    symlinkSync(join(folder, 'node_modules', name), join(this.path, 'node_modules', name));
  }

  /** Runs Node in the project until it ends by itself, and returns what it printed. */
  async node(...args) {
    const { stdout } = await run(process.execPath, args, { cwd: this.path, timeout: 120_000 });
    return stdout.trim();
  }

  remove() {
    rmSync(this.#root, { recursive: true, force: true });
  }
}
