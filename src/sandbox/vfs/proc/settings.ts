// /proc/sys: the settings that programs look at (sysctl(8), proc_sys(5)). A setting can be written only if writing it
// has an effect here; all others show the value that this kernel has, and refuse to be opened for writing.

import { lastCapability } from '../../abi/capability.ts';
import { Errno } from '../../abi/errno.ts';
import type { Kernel, Task } from '../../kernel/contract.ts';
import type { SandboxKernel } from '../../kernel/kernel.ts';
import { randomUuid, SystemIdentity } from '../../kernel/system-identity.ts';
import { maximumOpenFiles } from '../../kernel/task/limits.ts';
import type { PidTable } from '../../kernel/task/pid.ts';
import { PipeFileSystem } from '../pipe/file-system.ts';
import { pageBytes } from '../pipe/pipe.ts';
import { Vfs } from '../vfs.ts';

export interface Setting {
  /** Permission bits: 0o444, or 0o644 with `write`. */
  readonly mode: number;
  /** The text with its newline. */
  read(task: Task): string;
  /** 0 or a negative errno. */
  write?(text: string, task: Task): number;
}

/** A value that never changes. */
export function constant(value: string | number): Setting {
  const text = `${value}\n`;
  return { mode: 0o444, read: () => text };
}

/** A value that the sandbox computes. */
export function computed(read: (task: Task) => string | number): Setting {
  return { mode: 0o444, read: (task) => `${read(task)}\n` };
}

/** An integer within [minimum, maximum]; -EINVAL for anything else that is written (proc_dointvec_minmax). */
export function integer(
  read: (task: Task) => number,
  write: (value: number, task: Task) => number,
  minimum: number,
  maximum: number,
): Setting {
  return {
    mode: 0o644,
    read: (task) => `${read(task)}\n`,
    write: (text, task) => {
      const fields = /^\s*(-?\d+)(\s|\0|$)/.exec(text);
      if (!fields) return -Errno.EINVAL;
      const value = Number(fields[1]);
      return value < minimum || value > maximum ? -Errno.EINVAL : write(value, task);
    },
  };
}

/** A name of the UTS namespace (proc_do_uts_string). */
function utsName(name: 'hostname' | 'domainname'): Setting {
  return {
    mode: 0o644,
    read: (task) => `${task.uts[name]}\n`,
    write: (text, task) => {
      task.uts[name] = (text.split(/[\n\0]/)[0] ?? '').slice(0, 64);
      return 0;
    },
  };
}

/** Settings that are numbers or texts of this kernel's and never change. */
const constants: Readonly<Record<string, string | number>> = {
  'abi/vsyscall32': 1,
  'debug/exception-trace': 1,
  'fs/aio-max-nr': 65_536,
  'fs/aio-nr': 0,
  'fs/dir-notify-enable': 1,
  'fs/epoll/max_user_watches': 1_000_000,
  'fs/file-max': '9223372036854775807',
  'fs/inotify/max_queued_events': 16_384,
  'fs/inotify/max_user_instances': 128,
  'fs/inotify/max_user_watches': 65_536,
  'fs/lease-break-time': 45,
  'fs/leases-enable': 1,
  'fs/mount-max': 100_000,
  'fs/mqueue/msg_default': 10,
  'fs/mqueue/msg_max': 10,
  'fs/mqueue/msgsize_default': 8192,
  'fs/mqueue/msgsize_max': 8192,
  'fs/mqueue/queues_max': 256,
  'fs/nr_open': maximumOpenFiles,
  'fs/overflowgid': 65_534,
  'fs/overflowuid': 65_534,
  'fs/suid_dumpable': 0,
  'kernel/acct': '4\t2\t30',
  'kernel/auto_msgmni': 0,
  'kernel/cap_last_cap': lastCapability,
  'kernel/core_pattern': 'core',
  'kernel/core_pipe_limit': 0,
  'kernel/core_uses_pid': 0,
  'kernel/ctrl-alt-del': 0,
  'kernel/dmesg_restrict': 1,
  'kernel/io_uring_disabled': 2,
  'kernel/io_uring_group': -1,
  'kernel/kptr_restrict': 1,
  'kernel/msgmax': 8192,
  'kernel/msgmnb': 16_384,
  'kernel/msgmni': 32_000,
  'kernel/ngroups_max': 65_536,
  'kernel/ostype': 'Linux',
  'kernel/overflowgid': 65_534,
  'kernel/overflowuid': 65_534,
  'kernel/panic': 0,
  'kernel/perf_event_paranoid': 3,
  'kernel/printk': '4\t4\t1\t7',
  'kernel/random/entropy_avail': 256,
  'kernel/random/poolsize': 256,
  'kernel/random/urandom_min_reseed_secs': 60,
  'kernel/random/write_wakeup_threshold': 256,
  'kernel/randomize_va_space': 2,
  'kernel/sched_autogroup_enabled': 0,
  'kernel/sched_cfs_bandwidth_slice_us': 5000,
  'kernel/sched_child_runs_first': 0,
  'kernel/sched_deadline_period_max_us': 4_194_304,
  'kernel/sched_deadline_period_min_us': 100,
  'kernel/sched_rr_timeslice_ms': 100,
  'kernel/sched_rt_period_us': 1_000_000,
  'kernel/sched_rt_runtime_us': 950_000,
  'kernel/sem': '32000\t1024000000\t500\t32000',
  'kernel/shmall': '18446744073692774399',
  'kernel/shmmax': '18446744073692774399',
  'kernel/shmmni': 4096,
  'kernel/shm_rmid_forced': 0,
  'kernel/sysctl_writes_strict': 1,
  'kernel/tainted': 0,
  'kernel/timer_migration': 1,
  'kernel/unprivileged_bpf_disabled': 2,
  'kernel/yama/ptrace_scope': 0,
  'net/core/default_qdisc': 'noqueue',
  'net/core/netdev_max_backlog': 1000,
  'net/core/optmem_max': 131_072,
  'net/core/rmem_default': 212_992,
  'net/core/rmem_max': 212_992,
  'net/core/somaxconn': 4096,
  'net/core/wmem_default': 212_992,
  'net/core/wmem_max': 212_992,
  'net/ipv4/icmp_echo_ignore_broadcasts': 1,
  'net/ipv4/ip_default_ttl': 64,
  'net/ipv4/ip_forward': 0,
  'net/ipv4/ip_local_port_range': '32768\t60999',
  'net/ipv4/ip_nonlocal_bind': 0,
  'net/ipv4/ip_unprivileged_port_start': 1024,
  'net/ipv4/ping_group_range': '1\t0',
  'net/ipv4/tcp_available_congestion_control': 'reno cubic',
  'net/ipv4/tcp_congestion_control': 'cubic',
  'net/ipv4/tcp_ecn': 2,
  'net/ipv4/tcp_fastopen': 1,
  'net/ipv4/tcp_fin_timeout': 60,
  'net/ipv4/tcp_keepalive_intvl': 75,
  'net/ipv4/tcp_keepalive_probes': 9,
  'net/ipv4/tcp_keepalive_time': 7200,
  'net/ipv4/tcp_max_syn_backlog': 512,
  'net/ipv4/tcp_retries1': 3,
  'net/ipv4/tcp_retries2': 15,
  'net/ipv4/tcp_rmem': '4096\t131072\t6291456',
  'net/ipv4/tcp_sack': 1,
  'net/ipv4/tcp_syn_retries': 6,
  'net/ipv4/tcp_syncookies': 1,
  'net/ipv4/tcp_timestamps': 1,
  'net/ipv4/tcp_tw_reuse': 2,
  'net/ipv4/tcp_window_scaling': 1,
  'net/ipv4/tcp_wmem': '4096\t16384\t4194304',
  'net/unix/max_dgram_qlen': 512,
  'vm/admin_reserve_kbytes': 8192,
  'vm/dirty_background_bytes': 0,
  'vm/dirty_background_ratio': 10,
  'vm/dirty_bytes': 0,
  'vm/dirty_expire_centisecs': 3000,
  'vm/dirty_ratio': 20,
  'vm/dirty_writeback_centisecs': 500,
  'vm/hugetlb_shm_group': 0,
  'vm/laptop_mode': 0,
  'vm/legacy_va_layout': 0,
  'vm/max_map_count': 65_530,
  'vm/memfd_noexec': 0,
  'vm/mmap_min_addr': 65_536,
  'vm/nr_hugepages': 0,
  'vm/nr_overcommit_hugepages': 0,
  'vm/oom_dump_tasks': 1,
  'vm/oom_kill_allocating_task': 0,
  'vm/overcommit_kbytes': 0,
  'vm/overcommit_memory': 0,
  'vm/overcommit_ratio': 50,
  'vm/page-cluster': 3,
  'vm/panic_on_oom': 0,
  'vm/swappiness': 60,
  'vm/unprivileged_userfaultfd': 0,
  'vm/user_reserve_kbytes': 131_072,
  'vm/vfs_cache_pressure': 100,
  'vm/zone_reclaim_mode': 0,
};

const pidTable = (task: Task): PidTable => task.process.pidNamespace as PidTable;

/** Bytes that fit: at least a page, a power of two of pages (round_pipe_size). */
function pipeSize(value: number): number {
  return value <= pageBytes ? pageBytes : pageBytes * 2 ** Math.ceil(Math.log2(value / pageBytes));
}

/** All settings by their path below /proc/sys. */
export function settingsOf(kernel: Kernel): Map<string, Setting> {
  const identity = kernel.part(SystemIdentity);
  const pipes = kernel.part(PipeFileSystem);
  const { protection } = kernel.part(Vfs);
  const settings = new Map<string, Setting>();
  for (const [path, value] of Object.entries(constants)) settings.set(path, constant(value));
  const tasks = (kernel as SandboxKernel).taskLimit;

  settings.set('kernel/arch', constant(identity.machine));
  settings.set(
    'kernel/osrelease',
    computed(() => identity.release),
  );
  settings.set(
    'kernel/version',
    computed(() => identity.version),
  );
  settings.set('kernel/hostname', utsName('hostname'));
  settings.set('kernel/domainname', utsName('domainname'));
  settings.set('kernel/threads-max', constant(tasks));
  settings.set(
    'kernel/pid_max',
    integer(
      (task) => pidTable(task).maximum,
      (value, task) => {
        pidTable(task).maximum = value;
        return 0;
      },
      301,
      4_194_304,
    ),
  );
  settings.set(
    'kernel/ns_last_pid',
    computed((task) => pidTable(task).last),
  );
  settings.set('kernel/random/boot_id', constant(identity.bootId));
  settings.set(
    'kernel/random/uuid',
    computed(() => randomUuid(kernel)),
  );
  for (const kind of ['cgroup', 'ipc', 'mnt', 'net', 'pid', 'user', 'uts'])
    settings.set(`user/max_${kind}_namespaces`, constant(tasks >> 1));

  settings.set(
    'fs/file-nr',
    computed(() => `${openFiles(kernel)}\t0\t9223372036854775807`),
  );
  settings.set(
    'fs/pipe-max-size',
    integer(
      () => pipes.maximumSize,
      (value) => {
        pipes.maximumSize = pipeSize(value);
        return 0;
      },
      0,
      0x8000_0000,
    ),
  );
  const pages = (name: 'userPagesSoft' | 'userPagesHard'): Setting =>
    integer(
      () => pipes[name],
      (value) => {
        pipes[name] = value;
        return 0;
      },
      0,
      Number.MAX_SAFE_INTEGER,
    );
  settings.set('fs/pipe-user-pages-soft', pages('userPagesSoft'));
  settings.set('fs/pipe-user-pages-hard', pages('userPagesHard'));
  const protect = (name: keyof typeof protection, maximum: number): void => {
    settings.set(
      `fs/protected_${name}`,
      integer(
        () => protection[name],
        (value) => {
          protection[name] = value;
          return 0;
        },
        0,
        maximum,
      ),
    );
  };
  protect('symlinks', 1);
  protect('hardlinks', 1);
  protect('fifos', 2);
  protect('regular', 2);
  return settings;
}

function openFiles(kernel: Kernel): number {
  let count = 0;
  const tables = new Set<object>();
  for (const [, process] of kernel.rootPidNamespace.processes())
    for (const task of process.tasks) {
      if (tables.has(task.files)) continue;
      tables.add(task.files);
      for (const _entry of task.files.entries()) count++;
    }
  return count;
}
