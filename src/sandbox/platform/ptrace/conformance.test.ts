import { traceePath } from '../../host/addon.ts';
import { openHost } from '../../host/native.ts';
import { startZygote } from '../systrap/platform.ts';
import { testPlatform } from '../testing/conformance.ts';
import { startPtrace } from './platform.ts';

testPlatform(() => {
  const host = openHost();
  return { host, platform: startPtrace({ host, zygote: startZygote(host, traceePath) }) };
});
