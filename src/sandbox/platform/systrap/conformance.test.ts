// The systrap platform does what every platform must do.

import { stubPath } from '../../host/addon.ts';
import { openHost } from '../../host/native.ts';
import { testPlatform } from '../testing/conformance.ts';
import { startSystrap, startZygote } from './platform.ts';

testPlatform(() => {
  const host = openHost();
  return { host, platform: startSystrap({ host, zygote: startZygote(host, stubPath) }) };
});
