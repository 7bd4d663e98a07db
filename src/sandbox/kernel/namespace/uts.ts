// UTS namespaces: host and domain name (uts_namespaces(7)).

import type { UserNamespace, UtsNamespace } from '../contract.ts';

export class NamedUtsNamespace implements UtsNamespace {
  hostname: string;
  domainname: string;
  readonly userNamespace: UserNamespace;

  constructor(hostname: string, domainname: string, userNamespace: UserNamespace) {
    this.hostname = hostname;
    this.domainname = domainname;
    this.userNamespace = userNamespace;
  }

  copy(owner: UserNamespace): NamedUtsNamespace {
    return new NamedUtsNamespace(this.hostname, this.domainname, owner);
  }
}
