/**
 * @file What the commands need before they can work: dependencies, a browser, a Vulkan driver. Each helper looks first, installs only what is missing,
 * says in one line on stderr what it does, and needs no network where everything is there. Plain Node: this runs before `npm ci`.
 */
import { spawnSync } from 'node:child_process'
import { existsSync, readFileSync, readdirSync, statSync, writeFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'

export const ROOT = resolve(dirname(fileURLToPath(import.meta.url)), '..')
const isRoot = process.getuid?.() === 0
const SWIFTSHADER_ICD = 'vk_swiftshader_icd.json'

/** @param {string} line One line for the person at the terminal; stdout stays free for results. */
export function say(line) {
  process.stderr.write(`[etude] ${line}\n`)
}

/** The npm of this Node, also where `npm` is a script (Windows). */
const npm = process.platform === 'win32' ? 'npm.cmd' : 'npm'
const npx = process.platform === 'win32' ? 'npx.cmd' : 'npx'

/** Runs a command with its output on stderr; true when it ended well. */
function works(command, args, env = {}) {
  const shell = process.platform === 'win32'
  return spawnSync(command, args, { cwd: ROOT, stdio: ['ignore', 2, 2], shell, env: { ...process.env, ...env } }).status === 0
}

/** Full path of a program on PATH, or null. */
export function onPath(name) {
  const extensions = process.platform === 'win32' ? ['.exe', '.cmd', ''] : ['']
  const directories = (process.env.PATH ?? '').split(process.platform === 'win32' ? ';' : ':').filter(Boolean)
  return directories.flatMap((d) => extensions.map((e) => join(d, name + e))).find((p) => existsSync(p)) ?? null
}

/** Installs the locked dependencies when they are missing or older than the lock file. Throws when npm fails. */
export function ensureDependencies() {
  const stamp = join(ROOT, 'node_modules/.package-lock.json')
  const lock = join(ROOT, 'package-lock.json')
  if (existsSync(stamp) && (statSync(stamp).mtimeMs >= statSync(lock).mtimeMs || sameLock(stamp, lock))) return
  say('installing dependencies (npm ci)')
  if (!works(npm, ['ci', '--no-audit', '--no-fund']))
    throw new Error('npm ci failed: see its output above. It needs the npm registry once.')
}

/** Whether what is installed is what the lock file asks for: a checkout touches the lock's time, not its content. */
function sameLock(stamp, lock) {
  const packages = (file) => JSON.parse(readFileSync(file, 'utf8')).packages
  const [have, want] = [packages(stamp), packages(lock)]
  return Object.entries(want).every(([path, p]) => path === '' || p.link || p.optional || have[path]?.version === p.version)
}

/** Where browsers that can run WebGPU live, by platform. */
function browserCandidates() {
  const names = ['chromium', 'google-chrome', 'google-chrome-stable', 'chrome', 'chromium-browser', 'microsoft-edge']
  const mac = ['Google Chrome', 'Chromium', 'Microsoft Edge'].map((n) => `Applications/${n}.app/Contents/MacOS/${n}`)
  const windows = ['Google/Chrome/Application/chrome.exe', 'Chromium/Application/chrome.exe', 'Microsoft/Edge/Application/msedge.exe']
  const windowsRoots = [process.env.PROGRAMFILES, process.env['PROGRAMFILES(X86)'], process.env.LOCALAPPDATA].filter(Boolean)
  if (process.platform === 'darwin') return mac.flatMap((p) => [join('/', p), join(homedir(), p)])
  if (process.platform === 'win32') return windowsRoots.flatMap((r) => windows.map((p) => join(r, p)))
  return names.map(onPath).filter((p) => p !== null && !isSnapStub(p))
}

/** Ubuntu's chromium-browser package is a script that only tells how to get the snap. */
function isSnapStub(path) {
  const { size } = statSync(path)
  return size < 10_000 && /snap install/.test(readFileSync(path, 'utf8'))
}

/** Chromium as Playwright's installer left it, or null. */
function playwrightBrowser() {
  const script = "process.stdout.write(require('@playwright/test').chromium.executablePath())"
  const { stdout } = spawnSync(process.execPath, ['-e', script], { cwd: ROOT, encoding: 'utf8' })
  return stdout && existsSync(stdout) ? stdout : null
}

/** Path of a Chrome or Chromium that is there (CHROMIUM in the environment wins), or null. Installs nothing. */
export function findBrowser() {
  const named = process.env.CHROMIUM
  if (named && existsSync(named)) return named
  if (named) say(`CHROMIUM=${named} does not exist; looking elsewhere`)
  return browserCandidates().find((p) => existsSync(p)) ?? playwrightBrowser()
}

/** The ID of this Linux distribution and of those it is like; empty elsewhere. */
function distribution() {
  if (!existsSync('/etc/os-release')) return { ids: [], codename: '' }
  const text = readFileSync('/etc/os-release', 'utf8')
  const field = (name) => new RegExp(`^${name}="?([^"\\n]*)`, 'm').exec(text)?.[1] ?? ''
  return { ids: [field('ID'), ...field('ID_LIKE').split(' ')].filter(Boolean), codename: field('VERSION_CODENAME'), id: field('ID') }
}

let updated = false
/** Installs Debian packages; `release` picks another suite. Only root on a Debian-like system. */
function apt(packages, release) {
  const env = { DEBIAN_FRONTEND: 'noninteractive' }
  if (!updated) works('apt-get', ['update', '-qq'], env)
  updated = true
  return works('apt-get', ['install', '-y', '-qq', '--no-install-recommends', ...(release ? ['-t', release] : []), ...packages], env)
}

/** Path of a browser, installed if none is found: Debian's package when root, otherwise Playwright's Chromium. Throws when neither works. */
export function ensureBrowser() {
  const found = findBrowser()
  if (found) return found
  if (isRoot && distribution().id === 'debian') {
    say("no Chrome or Chromium found: installing Debian's chromium")
    apt(['chromium', 'fonts-liberation'])
    const debian = findBrowser()
    if (debian) return debian
  }
  say("no Chrome or Chromium found: installing Playwright's Chromium")
  works(npx, ['playwright', 'install', ...(isRoot && process.platform === 'linux' ? ['--with-deps'] : []), 'chromium'])
  const installed = findBrowser()
  if (installed) return installed
  throw new Error('No Chrome or Chromium, and none could be installed. Install Google Chrome, or set CHROMIUM to the path of one.')
}

/** Lavapipe's driver manifest, if its Mesa is 25 or newer (older ones lack what Dawn needs): 25.0 is the first that lists Vulkan 1.4.305. */
export function findLavapipe() {
  for (const folder of ['/usr/share/vulkan/icd.d', '/etc/vulkan/icd.d', '/usr/local/share/vulkan/icd.d']) {
    const names = existsSync(folder) ? readdirSync(folder).filter((n) => /^lvp_icd.*\.json$/.test(n)) : []
    for (const name of names.sort(
      (a, b) => Number(b.includes(process.arch === 'arm64' ? 'aarch64' : 'x86_64')) - Number(a.includes('64')),
    )) {
      const version = JSON.parse(readFileSync(join(folder, name), 'utf8')).ICD?.api_version ?? '0'
      const [major = 0, minor = 0, patch = 0] = version.split('.').map(Number)
      if (major > 1 || minor > 4 || (minor === 4 && patch >= 305)) return join(folder, name)
    }
  }
  return null
}

/** The manifest of SwiftShader, the software driver inside a Chromium, or null. */
export function findSwiftShader(browser = findBrowser()) {
  const near = browser ? dirname(browser) : '/usr/lib/chromium'
  const folders = [near, '/usr/lib/chromium', '/usr/lib/chromium-browser', '/opt/google/chrome', '/opt/microsoft/msedge']
  return folders.map((f) => join(f, SWIFTSHADER_ICD)).find((p) => existsSync(p)) ?? null
}

/**
 * What WebGPU in Node (Dawn) finds under `icd`, or under the machine's own drivers: `{vendor, description, software}`, or null when there is no
 * adapter. Needs the dependencies. Runs in a child process: a driver is chosen once per process.
 */
export function probeAdapter(icd) {
  const script = `
    import { create } from 'webgpu'
    const gpu = create([])
    const info = (await gpu.requestAdapter())?.info
    if (info) process.stdout.write(JSON.stringify({ vendor: info.vendor, architecture: info.architecture, description: info.description }))
    process.exit(0)`
  const env = { XDG_RUNTIME_DIR: '/tmp', ...process.env, ...(icd ? { VK_ICD_FILENAMES: icd } : {}) }
  const { stdout } = spawnSync(process.execPath, ['--input-type=module', '-e', script], {
    cwd: ROOT,
    encoding: 'utf8',
    env,
    timeout: 60_000,
  })
  if (!stdout) return null
  const info = JSON.parse(stdout)
  return { ...info, software: /llvmpipe|lavapipe|swiftshader/i.test(`${info.vendor} ${info.architecture} ${info.description}`) }
}

/**
 * A Vulkan driver for WebGPU in Node. Returns `{name: 'gpu', icd: null}` on a machine with a GPU (and on macOS and Windows, which need none), else
 * lavapipe (installed when root on Debian or Ubuntu), else Chromium's SwiftShader. Throws, saying what to install, when there is neither.
 * @param {string | null} browser Path of the browser, where SwiftShader lies.
 */
export function ensureVulkan(browser = findBrowser()) {
  if (process.platform !== 'linux') return { name: 'gpu', icd: null }
  const chosen = process.env.VK_ICD_FILENAMES
  if (chosen) return { name: /lvp_/.test(chosen) ? 'lavapipe' : /swiftshader/.test(chosen) ? 'swiftshader' : 'gpu', icd: chosen }
  const own = probeAdapter(null)
  if (own && !own.software) return { name: 'gpu', icd: null }
  const lavapipe = findLavapipe() ?? installLavapipe()
  if (lavapipe && (own || probeAdapter(lavapipe))) return { name: 'lavapipe', icd: lavapipe }
  const swiftshader = findSwiftShader(browser)
  if (swiftshader && (hasVulkanLoader() || (isRoot && apt(['libvulkan1']))) && probeAdapter(swiftshader)) {
    say(`no GPU and no lavapipe: using Chromium's SwiftShader (${swiftshader})`)
    return { name: 'swiftshader', icd: swiftshader }
  }
  throw new Error(
    'No GPU and no software Vulkan driver. Install Mesa 25 or newer with lavapipe: Debian and Ubuntu `mesa-vulkan-drivers libvulkan1` (Debian 12: from bookworm-backports), Fedora `mesa-vulkan-drivers`, Arch `vulkan-swrast`.',
  )
}

const hasVulkanLoader = () => /libvulkan\.so\.1/.test(spawnSync('ldconfig', ['-p'], { encoding: 'utf8' }).stdout ?? '')

/** Installs lavapipe from the configured sources, and from Debian's backports where the stable Mesa is too old. Null where it cannot. */
function installLavapipe() {
  const { ids, id, codename } = distribution()
  if (!isRoot || !ids.some((i) => i === 'debian' || i === 'ubuntu')) {
    say('no GPU and no lavapipe, and this is not root on Debian or Ubuntu: not installing Mesa')
    return null
  }
  say('no GPU: installing Mesa lavapipe, a Vulkan driver on the CPU')
  const packages = ['mesa-vulkan-drivers', 'libvulkan1']
  apt(packages)
  if (findLavapipe() || id !== 'debian') return findLavapipe()
  const suite = `${codename}-backports`
  if (!backportsConfigured(suite)) {
    const { uri, signedBy } = debianSource()
    say(`Mesa of ${codename} is too old: adding ${suite} from ${uri}`)
    writeFileSync('/etc/apt/sources.list.d/backports.list', `deb ${signedBy ? `[signed-by=${signedBy}] ` : ''}${uri} ${suite} main\n`)
    updated = false
  }
  apt(packages, suite)
  return findLavapipe()
}

/** Every apt source line in use. */
function aptSources() {
  const folder = '/etc/apt/sources.list.d'
  const files = [
    '/etc/apt/sources.list',
    ...readdirSync(folder)
      .filter((n) => /\.(list|sources)$/.test(n))
      .map((n) => join(folder, n)),
  ]
  return files.filter((f) => existsSync(f)).map((f) => readFileSync(f, 'utf8').replace(/^\s*#.*$/gm, ''))
}

const backportsConfigured = (suite) => aptSources().some((text) => new RegExp(`(^|\\s)${suite}(\\s|$)`, 'm').test(text))

/** The mirror that the machine's main Debian source names (not the security one), so that a configured mirror is honoured. */
function debianSource() {
  for (const text of aptSources()) {
    for (const stanza of text.split(/\n\s*\n/)) {
      const uri = /^URIs:\s*(\S+)/m.exec(stanza)?.[1]
      if (uri && !/security/.test(uri) && /debian/.test(uri)) return { uri, signedBy: /^Signed-By:\s*(\S+)/m.exec(stanza)?.[1] }
    }
    const line = /^deb\s+(?:\[(?<options>[^\]]*)\]\s+)?(?<uri>\S*debian\S*)\s+\S+\s+main/m.exec(text)?.groups
    if (line && !/security/.test(line.uri)) return { uri: line.uri, signedBy: /signed-by=(\S+)/.exec(line.options ?? '')?.[1] }
  }
  return { uri: 'http://deb.debian.org/debian', signedBy: undefined }
}
