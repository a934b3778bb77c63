-- SPDX-License-Identifier: Apache-2.0
-- The database of release 0.1.0 (revision 0004), as its daemon's services have written it: one zone with two
-- system VMs that are Up; templates in each state, one of them deleted; VMs that run, are stopped, and are
-- destroyed; a session, a console, certificates, and a job that was cut off. DIRECTORY stands for the daemon's.
--
-- lists.json has what that release's API answered about it to two users. To make both again: check out the
-- last commit before 2026-11-22, fill the cloud of its tests/small_cloud.py by calls, and write what
-- `sqlite3 systemvm.sqlite .dump` prints.
BEGIN TRANSACTION;
CREATE TABLE accounts (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	uuid VARCHAR(36) NOT NULL, 
	created DATETIME NOT NULL, 
	removed DATETIME, 
	name VARCHAR(255) NOT NULL, 
	type INTEGER NOT NULL, 
	domain_id INTEGER NOT NULL, 
	state VARCHAR(20) NOT NULL, 
	CONSTRAINT fk_accounts_domain_id FOREIGN KEY(domain_id) REFERENCES domains (id), 
	CONSTRAINT uq_accounts_uuid UNIQUE (uuid)
);
INSERT INTO "accounts" VALUES(1,'74da606d-040a-423c-bf2d-ec1babbc37ef','2026-11-29 21:53:01.427236',NULL,'system',1,1,'enabled');
INSERT INTO "accounts" VALUES(2,'0f11996f-3548-44c1-8ff3-8534e0615586','2026-11-29 21:53:01.469407',NULL,'admin',1,1,'enabled');
INSERT INTO "accounts" VALUES(3,'5d9743d1-a191-47d1-99ca-fdfb224ae720','2026-11-29 21:53:01.472202',NULL,'users',0,1,'enabled');
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0004');
CREATE TABLE api_keys (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	uuid VARCHAR(36) NOT NULL, 
	created DATETIME NOT NULL, 
	removed DATETIME, 
	user_id INTEGER NOT NULL, 
	api_key VARCHAR(255) NOT NULL, 
	sealed_secret BLOB NOT NULL, 
	CONSTRAINT fk_api_keys_user_id FOREIGN KEY(user_id) REFERENCES users (id), 
	CONSTRAINT uq_api_keys_api_key UNIQUE (api_key), 
	CONSTRAINT uq_api_keys_uuid UNIQUE (uuid)
);
INSERT INTO "api_keys" VALUES(1,'377afaa0-770e-47f9-a46e-392cb1d6c80e','2026-11-29 21:53:01.471503',NULL,2,'an-api-key',X'0396F76D3A2C66BE75C72643BA5EBD3EFD682195E21A8C02CB725765FC77CDD325C2D69BD148452F');
CREATE TABLE async_jobs (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	uuid VARCHAR(36) NOT NULL, 
	created DATETIME NOT NULL, 
	removed DATETIME, 
	account_id INTEGER NOT NULL, 
	domain_id INTEGER NOT NULL, 
	zone_id INTEGER, 
	arch VARCHAR(16), 
	user_id INTEGER, 
	command VARCHAR(255) NOT NULL, 
	arguments JSON NOT NULL, 
	status INTEGER NOT NULL, 
	progress INTEGER NOT NULL, 
	progress_text TEXT, 
	result_code INTEGER NOT NULL, 
	result JSON, 
	instance_type VARCHAR(40), 
	instance_uuid VARCHAR(36), 
	request_id VARCHAR(64) NOT NULL, 
	host_id INTEGER, 
	completed DATETIME, 
	CONSTRAINT fk_async_jobs_account_id FOREIGN KEY(account_id) REFERENCES accounts (id), 
	CONSTRAINT fk_async_jobs_domain_id FOREIGN KEY(domain_id) REFERENCES domains (id), 
	CONSTRAINT fk_async_jobs_host_id FOREIGN KEY(host_id) REFERENCES hosts (id), 
	CONSTRAINT fk_async_jobs_user_id FOREIGN KEY(user_id) REFERENCES users (id), 
	CONSTRAINT fk_async_jobs_zone_id FOREIGN KEY(zone_id) REFERENCES zones (id), 
	CONSTRAINT uq_async_jobs_uuid UNIQUE (uuid)
);
INSERT INTO "async_jobs" VALUES(1,'d352a8e2-c760-4593-ab95-c357140ad328','2026-11-29 21:53:02.294574',NULL,3,1,NULL,NULL,3,'deployVirtualMachine','{"id": 3, "start": true}',1,100,'Making its disk and starting it',0,'{"virtualmachine": {"id": "2c50cf4d-197c-49bb-bc68-b001c755e985", "name": "web", "displayname": "web of the release", "instancename": "i-3-3-VM", "state": "Running", "account": "users", "domainid": "db7a0d12-0e56-4eb1-8ed8-3a2ea2037182", "domain": "ROOT", "created": "2026-11-29T21:53:02+0000", "zoneid": "d45fac21-6c91-4541-a37a-7c8e75e8119c", "zonename": "zone1", "hostid": "3e882f21-5cb6-45d7-8679-21560f609b97", "hostname": "host1", "hypervisor": "KVM", "templateid": "09e30a95-1fa4-4a7c-a41a-6faa259560fb", "templatename": "tiny", "templatedisplaytext": "", "serviceofferingid": "8d285b04-0d18-5970-9ad7-51d041c9306f", "serviceofferingname": "tiny", "cpunumber": 1, "cpuspeed": 500, "memory": 128, "rootdeviceid": 0, "rootdevicetype": "ROOT", "haenable": false, "passwordenabled": false, "displayvm": true, "isdynamicallyscalable": false, "arch": "amd64", "nic": [{"id": "bca75966-c1cb-4d7f-ba35-314490dd0833", "deviceid": "0", "traffictype": "Guest", "macaddress": "02:c8:97:c1:61:e6", "isdefault": true, "type": "Shared"}]}}','VirtualMachine','2c50cf4d-197c-49bb-bc68-b001c755e985','request-1',NULL,'2026-11-29 21:53:02.493399');
INSERT INTO "async_jobs" VALUES(2,'fa29ef36-b418-4a46-9d7b-db5b99a09d31','2026-11-29 21:53:02.561969',NULL,3,1,NULL,NULL,3,'deployVirtualMachine','{"id": 4, "start": true}',1,100,'Making its disk and starting it',0,'{"virtualmachine": {"id": "c8342bcf-553e-405c-ae2c-9974ca016aeb", "name": "database", "displayname": "database of the release", "instancename": "i-3-4-VM", "state": "Running", "account": "users", "domainid": "db7a0d12-0e56-4eb1-8ed8-3a2ea2037182", "domain": "ROOT", "created": "2026-11-29T21:53:02+0000", "zoneid": "d45fac21-6c91-4541-a37a-7c8e75e8119c", "zonename": "zone1", "hostid": "3e882f21-5cb6-45d7-8679-21560f609b97", "hostname": "host1", "hypervisor": "KVM", "templateid": "09e30a95-1fa4-4a7c-a41a-6faa259560fb", "templatename": "tiny", "templatedisplaytext": "", "serviceofferingid": "8d285b04-0d18-5970-9ad7-51d041c9306f", "serviceofferingname": "tiny", "cpunumber": 1, "cpuspeed": 500, "memory": 128, "rootdeviceid": 0, "rootdevicetype": "ROOT", "haenable": false, "passwordenabled": false, "displayvm": true, "isdynamicallyscalable": false, "arch": "amd64", "nic": [{"id": "cc981423-255d-4e5d-91da-853656cbefd7", "deviceid": "0", "traffictype": "Guest", "macaddress": "02:04:14:dc:b0:e4", "isdefault": true, "type": "Shared"}]}}','VirtualMachine','c8342bcf-553e-405c-ae2c-9974ca016aeb','request-1',NULL,'2026-11-29 21:53:02.647924');
INSERT INTO "async_jobs" VALUES(3,'d0c81a33-d0dc-40c2-831a-10c9f4cd8bba','2026-11-29 21:53:02.696286',NULL,2,1,NULL,NULL,2,'deployVirtualMachine','{"id": 5, "start": true}',1,100,'Making its disk and starting it',0,'{"virtualmachine": {"id": "2f7c2a6a-8403-4855-aade-27d929f902e5", "name": "build", "displayname": "build of the release", "instancename": "i-2-5-VM", "state": "Running", "account": "admin", "domainid": "db7a0d12-0e56-4eb1-8ed8-3a2ea2037182", "domain": "ROOT", "created": "2026-11-29T21:53:02+0000", "zoneid": "d45fac21-6c91-4541-a37a-7c8e75e8119c", "zonename": "zone1", "hostid": "3e882f21-5cb6-45d7-8679-21560f609b97", "hostname": "host1", "hypervisor": "KVM", "templateid": "09e30a95-1fa4-4a7c-a41a-6faa259560fb", "templatename": "tiny", "templatedisplaytext": "", "serviceofferingid": "8d285b04-0d18-5970-9ad7-51d041c9306f", "serviceofferingname": "tiny", "cpunumber": 1, "cpuspeed": 500, "memory": 128, "rootdeviceid": 0, "rootdevicetype": "ROOT", "haenable": false, "passwordenabled": false, "displayvm": true, "isdynamicallyscalable": false, "arch": "amd64", "nic": [{"id": "6091add7-606d-4f68-8a90-2a9db32bb832", "deviceid": "0", "traffictype": "Guest", "macaddress": "02:23:33:41:a0:b6", "isdefault": true, "type": "Shared"}]}}','VirtualMachine','2f7c2a6a-8403-4855-aade-27d929f902e5','request-1',NULL,'2026-11-29 21:53:02.797725');
INSERT INTO "async_jobs" VALUES(4,'48b4906e-42de-4061-bb72-e688e8597168','2026-11-29 21:53:02.858514',NULL,2,1,NULL,NULL,2,'deployVirtualMachine','{"id": 6, "start": true}',1,100,'Making its disk and starting it',0,'{"virtualmachine": {"id": "dc503858-e0db-4781-b863-2d7614381ba9", "name": "old", "displayname": "old of the release", "instancename": "i-2-6-VM", "state": "Running", "account": "admin", "domainid": "db7a0d12-0e56-4eb1-8ed8-3a2ea2037182", "domain": "ROOT", "created": "2026-11-29T21:53:02+0000", "zoneid": "d45fac21-6c91-4541-a37a-7c8e75e8119c", "zonename": "zone1", "hostid": "3e882f21-5cb6-45d7-8679-21560f609b97", "hostname": "host1", "hypervisor": "KVM", "templateid": "09e30a95-1fa4-4a7c-a41a-6faa259560fb", "templatename": "tiny", "templatedisplaytext": "", "serviceofferingid": "8d285b04-0d18-5970-9ad7-51d041c9306f", "serviceofferingname": "tiny", "cpunumber": 1, "cpuspeed": 500, "memory": 128, "rootdeviceid": 0, "rootdevicetype": "ROOT", "haenable": false, "passwordenabled": false, "displayvm": true, "isdynamicallyscalable": false, "arch": "amd64", "nic": [{"id": "6c2d9186-c29a-44dd-aee3-7395ba77fbfc", "deviceid": "0", "traffictype": "Guest", "macaddress": "02:e5:ba:b4:cb:60", "isdefault": true, "type": "Shared"}]}}','VirtualMachine','dc503858-e0db-4781-b863-2d7614381ba9','request-1',NULL,'2026-11-29 21:53:02.957551');
INSERT INTO "async_jobs" VALUES(5,'f9ebe0eb-732b-421c-8c6c-9f0bb3fd8a24','2026-11-29 21:53:03.004959',NULL,3,1,NULL,NULL,3,'stopVirtualMachine','{"id": 4, "forced": true}',1,100,NULL,0,'{"virtualmachine": {"id": "c8342bcf-553e-405c-ae2c-9974ca016aeb", "name": "database", "displayname": "database of the release", "instancename": "i-3-4-VM", "state": "Stopped", "account": "users", "domainid": "db7a0d12-0e56-4eb1-8ed8-3a2ea2037182", "domain": "ROOT", "created": "2026-11-29T21:53:02+0000", "zoneid": "d45fac21-6c91-4541-a37a-7c8e75e8119c", "zonename": "zone1", "hypervisor": "KVM", "templateid": "09e30a95-1fa4-4a7c-a41a-6faa259560fb", "templatename": "tiny", "templatedisplaytext": "", "serviceofferingid": "8d285b04-0d18-5970-9ad7-51d041c9306f", "serviceofferingname": "tiny", "cpunumber": 1, "cpuspeed": 500, "memory": 128, "rootdeviceid": 0, "rootdevicetype": "ROOT", "haenable": false, "passwordenabled": false, "displayvm": true, "isdynamicallyscalable": false, "arch": "amd64", "nic": [{"id": "cc981423-255d-4e5d-91da-853656cbefd7", "deviceid": "0", "traffictype": "Guest", "macaddress": "02:04:14:dc:b0:e4", "isdefault": true, "type": "Shared"}]}}','VirtualMachine','c8342bcf-553e-405c-ae2c-9974ca016aeb','request-1',NULL,'2026-11-29 21:53:03.093684');
INSERT INTO "async_jobs" VALUES(6,'2d1aa572-48e7-4df1-9318-cae275177c7d','2026-11-29 21:53:03.104153',NULL,2,1,NULL,NULL,2,'destroyVirtualMachine','{"id": 6, "forced": false}',1,100,NULL,0,'{"virtualmachine": {"id": "dc503858-e0db-4781-b863-2d7614381ba9", "name": "old", "displayname": "old of the release", "instancename": "i-2-6-VM", "state": "Expunging", "account": "admin", "domainid": "db7a0d12-0e56-4eb1-8ed8-3a2ea2037182", "domain": "ROOT", "created": "2026-11-29T21:53:02+0000", "zoneid": "d45fac21-6c91-4541-a37a-7c8e75e8119c", "zonename": "zone1", "hypervisor": "KVM", "templateid": "09e30a95-1fa4-4a7c-a41a-6faa259560fb", "templatename": "tiny", "templatedisplaytext": "", "serviceofferingid": "8d285b04-0d18-5970-9ad7-51d041c9306f", "serviceofferingname": "tiny", "cpunumber": 1, "cpuspeed": 500, "memory": 128, "rootdeviceid": 0, "rootdevicetype": "ROOT", "haenable": false, "passwordenabled": false, "displayvm": true, "isdynamicallyscalable": false, "arch": "amd64", "nic": []}}','VirtualMachine','dc503858-e0db-4781-b863-2d7614381ba9','request-1',NULL,'2026-11-29 21:53:03.207716');
INSERT INTO "async_jobs" VALUES(7,'55e6abda-9501-4517-9cb7-8f687abeef17','2026-11-29 21:53:03.324301',NULL,2,1,NULL,NULL,2,'startVirtualMachine','{"id": 5}',0,0,NULL,0,NULL,'VirtualMachine','2f7c2a6a-8403-4855-aade-27d929f902e5','request-9',NULL,NULL);
CREATE TABLE certificates (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	uuid VARCHAR(36) NOT NULL, 
	created DATETIME NOT NULL, 
	removed DATETIME, 
	serial VARCHAR(40) NOT NULL, 
	name VARCHAR(64) NOT NULL, 
	kind VARCHAR(16) NOT NULL, 
	authority_key_id VARCHAR(40) NOT NULL, 
	not_before DATETIME NOT NULL, 
	not_after DATETIME NOT NULL, 
	revoked DATETIME, 
	reason TEXT, 
	CONSTRAINT uq_certificates_serial UNIQUE (serial), 
	CONSTRAINT uq_certificates_uuid UNIQUE (uuid)
);
INSERT INTO "certificates" VALUES(1,'1a16e376-71ad-437d-9123-4f45f5632a6b','2026-11-29 21:53:03.288673',NULL,'1a','s-1-VM','agent','abababababababababababababababababababab','2026-11-29 21:53:03.287546','2026-12-29 21:53:03.287547',NULL,NULL);
INSERT INTO "certificates" VALUES(2,'a95b243d-cbd4-4832-96d0-3275d98661fb','2026-11-29 21:53:03.322696',NULL,'1b','v-2-VM','bootstrap','abababababababababababababababababababab','2026-11-29 21:53:03.322166','2026-12-29 21:53:03.322170','2026-11-29 21:53:03.323583','replaced');
CREATE TABLE console_sessions (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	uuid VARCHAR(36) NOT NULL, 
	created DATETIME NOT NULL, 
	removed DATETIME, 
	account_id INTEGER NOT NULL, 
	domain_id INTEGER NOT NULL, 
	zone_id INTEGER, 
	arch VARCHAR(16), 
	user_id INTEGER NOT NULL, 
	vm_id INTEGER NOT NULL, 
	proxy_id INTEGER, 
	token_hash VARCHAR(64) NOT NULL, 
	token_expires DATETIME NOT NULL, 
	acquired DATETIME, 
	session_expires DATETIME, 
	creator_address VARCHAR(64), 
	client_address VARCHAR(64), 
	close_reason VARCHAR(255), 
	CONSTRAINT fk_console_sessions_account_id FOREIGN KEY(account_id) REFERENCES accounts (id), 
	CONSTRAINT fk_console_sessions_domain_id FOREIGN KEY(domain_id) REFERENCES domains (id), 
	CONSTRAINT fk_console_sessions_proxy_id FOREIGN KEY(proxy_id) REFERENCES vm_instances (id), 
	CONSTRAINT fk_console_sessions_user_id FOREIGN KEY(user_id) REFERENCES users (id), 
	CONSTRAINT fk_console_sessions_vm_id FOREIGN KEY(vm_id) REFERENCES vm_instances (id), 
	CONSTRAINT fk_console_sessions_zone_id FOREIGN KEY(zone_id) REFERENCES zones (id), 
	CONSTRAINT uq_console_sessions_token_hash UNIQUE (token_hash), 
	CONSTRAINT uq_console_sessions_uuid UNIQUE (uuid)
);
INSERT INTO "console_sessions" VALUES(1,'bb16a79b-7ef8-41ea-a36f-1fedb10e7ebe','2026-11-29 21:53:03.212524',NULL,3,1,1,NULL,3,3,2,'479b254eba05efce16867f3a7ac4b4ad191eebf8dd938a201db41422ecc688d3','2026-11-29 21:54:03.212092',NULL,NULL,'192.0.2.1',NULL,NULL);
CREATE TABLE domains (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	uuid VARCHAR(36) NOT NULL, 
	created DATETIME NOT NULL, 
	removed DATETIME, 
	name VARCHAR(255) NOT NULL, 
	path VARCHAR(255) NOT NULL, 
	parent_id INTEGER, 
	CONSTRAINT fk_domains_parent_id FOREIGN KEY(parent_id) REFERENCES domains (id), 
	CONSTRAINT uq_domains_path UNIQUE (path), 
	CONSTRAINT uq_domains_uuid UNIQUE (uuid)
);
INSERT INTO "domains" VALUES(1,'db7a0d12-0e56-4eb1-8ed8-3a2ea2037182','2026-11-29 21:53:01.421163',NULL,'ROOT','/',NULL);
CREATE TABLE events (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	uuid VARCHAR(36) NOT NULL, 
	created DATETIME NOT NULL, 
	removed DATETIME, 
	account_id INTEGER NOT NULL, 
	domain_id INTEGER NOT NULL, 
	zone_id INTEGER, 
	arch VARCHAR(16), 
	user_id INTEGER, 
	type VARCHAR(64) NOT NULL, 
	level VARCHAR(10) NOT NULL, 
	state VARCHAR(20) NOT NULL, 
	description TEXT NOT NULL, 
	resource_type VARCHAR(40), 
	resource_uuid VARCHAR(36), 
	job_uuid VARCHAR(36), 
	request_id VARCHAR(64), 
	CONSTRAINT fk_events_account_id FOREIGN KEY(account_id) REFERENCES accounts (id), 
	CONSTRAINT fk_events_domain_id FOREIGN KEY(domain_id) REFERENCES domains (id), 
	CONSTRAINT fk_events_user_id FOREIGN KEY(user_id) REFERENCES users (id), 
	CONSTRAINT fk_events_zone_id FOREIGN KEY(zone_id) REFERENCES zones (id), 
	CONSTRAINT uq_events_uuid UNIQUE (uuid)
);
INSERT INTO "events" VALUES(1,'c264dcbc-b295-492b-8c17-04fd36582b96','2026-11-29 21:53:02.256883',NULL,3,1,1,NULL,3,'VM.CREATE','INFO','Completed','web is deployed from tiny','VirtualMachine','2c50cf4d-197c-49bb-bc68-b001c755e985',NULL,NULL);
INSERT INTO "events" VALUES(2,'1b5a83cb-8104-4a8d-827b-694a0925d562','2026-11-29 21:53:02.477612',NULL,3,1,1,NULL,NULL,'VM.START','INFO','Completed','web runs','VirtualMachine','2c50cf4d-197c-49bb-bc68-b001c755e985',NULL,NULL);
INSERT INTO "events" VALUES(3,'cb5b342f-6473-45e8-8a6b-5e25d8c99d82','2026-11-29 21:53:02.539027',NULL,3,1,1,NULL,3,'VM.CREATE','INFO','Completed','database is deployed from tiny','VirtualMachine','c8342bcf-553e-405c-ae2c-9974ca016aeb',NULL,NULL);
INSERT INTO "events" VALUES(4,'9caeaeb0-59ca-4b52-b5c3-fe84fbc4d16f','2026-11-29 21:53:02.629931',NULL,3,1,1,NULL,NULL,'VM.START','INFO','Completed','database runs','VirtualMachine','c8342bcf-553e-405c-ae2c-9974ca016aeb',NULL,NULL);
INSERT INTO "events" VALUES(5,'3cfab022-24ee-4d8a-8c19-fa7a655fed2c','2026-11-29 21:53:02.676552',NULL,2,1,1,NULL,2,'VM.CREATE','INFO','Completed','build is deployed from tiny','VirtualMachine','2f7c2a6a-8403-4855-aade-27d929f902e5',NULL,NULL);
INSERT INTO "events" VALUES(6,'b4555126-c104-41ac-9e33-265fa5935ef8','2026-11-29 21:53:02.778779',NULL,2,1,1,NULL,NULL,'VM.START','INFO','Completed','build runs','VirtualMachine','2f7c2a6a-8403-4855-aade-27d929f902e5',NULL,NULL);
INSERT INTO "events" VALUES(7,'98f3a30c-3ce8-47ed-80ca-95095f73a5f8','2026-11-29 21:53:02.832105',NULL,2,1,1,NULL,2,'VM.CREATE','INFO','Completed','old is deployed from tiny','VirtualMachine','dc503858-e0db-4781-b863-2d7614381ba9',NULL,NULL);
INSERT INTO "events" VALUES(8,'30f570ca-7c37-4860-96d8-04481327b47d','2026-11-29 21:53:02.942853',NULL,2,1,1,NULL,NULL,'VM.START','INFO','Completed','old runs','VirtualMachine','dc503858-e0db-4781-b863-2d7614381ba9',NULL,NULL);
INSERT INTO "events" VALUES(9,'c17b9bab-5304-4aa4-951a-70500768d13c','2026-11-29 21:53:03.059885',NULL,3,1,1,NULL,NULL,'VM.STOP','INFO','Completed','database was stopped','VirtualMachine','c8342bcf-553e-405c-ae2c-9974ca016aeb',NULL,NULL);
INSERT INTO "events" VALUES(10,'5eb2505b-0633-484d-8581-cb99af2a8ada','2026-11-29 21:53:03.170721',NULL,2,1,1,NULL,NULL,'VM.DESTROY','INFO','Completed','old is destroyed','VirtualMachine','dc503858-e0db-4781-b863-2d7614381ba9',NULL,NULL);
INSERT INTO "events" VALUES(11,'094c8ad6-3119-4d5f-a329-88fdbad04884','2026-11-29 21:53:03.246038',NULL,3,1,NULL,NULL,3,'CONSOLE.LINK','INFO','Completed','console session of web of the release: a link for 192.0.2.1, good once, through v-2-VM','ConsoleSession','bb16a79b-7ef8-41ea-a36f-1fedb10e7ebe',NULL,'request-1');
CREATE TABLE hosts (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	uuid VARCHAR(36) NOT NULL, 
	created DATETIME NOT NULL, 
	removed DATETIME, 
	account_id INTEGER NOT NULL, 
	domain_id INTEGER NOT NULL, 
	zone_id INTEGER, 
	arch VARCHAR(16), 
	name VARCHAR(255) NOT NULL, 
	hypervisor VARCHAR(20) NOT NULL, 
	address VARCHAR(64), 
	state VARCHAR(20) NOT NULL, 
	version VARCHAR(40), 
	last_seen DATETIME, 
	CONSTRAINT fk_hosts_account_id FOREIGN KEY(account_id) REFERENCES accounts (id), 
	CONSTRAINT fk_hosts_domain_id FOREIGN KEY(domain_id) REFERENCES domains (id), 
	CONSTRAINT fk_hosts_zone_id FOREIGN KEY(zone_id) REFERENCES zones (id), 
	CONSTRAINT uq_hosts_uuid UNIQUE (uuid)
);
INSERT INTO "hosts" VALUES(1,'3e882f21-5cb6-45d7-8679-21560f609b97','2026-11-29 21:53:01.508726',NULL,1,1,1,'amd64','host1','KVM','10.11.0.1','Up','0.1.0','2026-11-29 21:53:01.507493');
CREATE TABLE image_stores (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	uuid VARCHAR(36) NOT NULL, 
	created DATETIME NOT NULL, 
	removed DATETIME, 
	account_id INTEGER NOT NULL, 
	domain_id INTEGER NOT NULL, 
	zone_id INTEGER, 
	arch VARCHAR(16), 
	name VARCHAR(255) NOT NULL, 
	url VARCHAR(2048) NOT NULL, 
	host_path VARCHAR(4096), 
	nfs_version VARCHAR(8) NOT NULL, 
	read_only BOOLEAN NOT NULL, 
	capacity_bytes BIGINT, 
	used_bytes BIGINT, 
	CONSTRAINT fk_image_stores_account_id FOREIGN KEY(account_id) REFERENCES accounts (id), 
	CONSTRAINT fk_image_stores_domain_id FOREIGN KEY(domain_id) REFERENCES domains (id), 
	CONSTRAINT fk_image_stores_zone_id FOREIGN KEY(zone_id) REFERENCES zones (id), 
	CONSTRAINT uq_image_stores_uuid UNIQUE (uuid)
);
INSERT INTO "image_stores" VALUES(1,'8bf20c8d-c8ed-4040-a78d-d1bb9c958cd8','2026-11-29 21:53:01.539770',NULL,1,1,1,NULL,'secondary','nfs://10.12.0.2/export/secondary','DIRECTORY/secondary','4.2',0,NULL,NULL);
CREATE TABLE ip_addresses (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	uuid VARCHAR(36) NOT NULL, 
	zone_id INTEGER NOT NULL, 
	traffic_type VARCHAR(20) NOT NULL, 
	address VARCHAR(64) NOT NULL, 
	vm_id INTEGER NOT NULL, 
	created DATETIME NOT NULL, 
	CONSTRAINT fk_ip_addresses_vm_id FOREIGN KEY(vm_id) REFERENCES vm_instances (id), 
	CONSTRAINT fk_ip_addresses_zone_id FOREIGN KEY(zone_id) REFERENCES zones (id), 
	CONSTRAINT uq_ip_addresses_uuid UNIQUE (uuid), 
	CONSTRAINT uq_ip_addresses_zone_id_traffic_type_address UNIQUE (zone_id, traffic_type, address)
);
INSERT INTO "ip_addresses" VALUES(1,'9538c895-26b7-4fa1-86b4-dabe15017bfe',1,'public','203.0.113.101',1,'2026-11-29 21:53:03.256730');
INSERT INTO "ip_addresses" VALUES(2,'dde9cce9-6dd9-406e-a7ac-cd178a44f063',1,'management','10.11.0.101',1,'2026-11-29 21:53:03.285674');
INSERT INTO "ip_addresses" VALUES(3,'5399ee94-b0e4-4072-8893-c92495fdb7f0',1,'control','169.254.0.1',1,'2026-11-29 21:53:03.286483');
INSERT INTO "ip_addresses" VALUES(4,'d4543ced-46e1-470b-afbb-2fce2209d811',1,'public','203.0.113.102',2,'2026-11-29 21:53:03.286849');
INSERT INTO "ip_addresses" VALUES(5,'41b4cfaf-a49c-401a-a06f-97c5c3b1a02c',1,'management','10.11.0.102',2,'2026-11-29 21:53:03.287175');
INSERT INTO "ip_addresses" VALUES(6,'9e03519d-bce5-40ed-8ce2-50959fe0ea90',1,'control','169.254.0.2',2,'2026-11-29 21:53:03.287476');
CREATE TABLE nics (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	uuid VARCHAR(36) NOT NULL, 
	created DATETIME NOT NULL, 
	removed DATETIME, 
	vm_id INTEGER NOT NULL, 
	device INTEGER NOT NULL, 
	traffic_type VARCHAR(20) NOT NULL, 
	bridge VARCHAR(15) NOT NULL, 
	mac VARCHAR(17) NOT NULL, 
	address VARCHAR(64), 
	netmask VARCHAR(64), 
	gateway VARCHAR(64), 
	CONSTRAINT fk_nics_vm_id FOREIGN KEY(vm_id) REFERENCES vm_instances (id), 
	CONSTRAINT uq_nics_uuid UNIQUE (uuid)
);
INSERT INTO "nics" VALUES(1,'7c10fb8f-d564-4ac7-a8a5-6c808c0c36ff','2026-11-29 21:53:01.567521',NULL,1,0,'control','cloud0','0e:00:00:00:00:01','169.254.0.1','255.255.0.0',NULL);
INSERT INTO "nics" VALUES(2,'b8e42018-b2f5-4f91-a91c-d7c66569669b','2026-11-29 21:53:01.568426',NULL,1,1,'management','cloudbr1','0e:00:00:00:01:01','10.11.0.101','255.255.255.0','10.11.0.1');
INSERT INTO "nics" VALUES(3,'a446e0ed-2ee1-42b5-bf4f-e79742ed2d0b','2026-11-29 21:53:01.568718',NULL,1,2,'public','cloudbr0','0e:00:00:00:02:01','203.0.113.101','255.255.255.0','203.0.113.1');
INSERT INTO "nics" VALUES(4,'437436cb-214d-4707-aa87-8dd55a600521','2026-11-29 21:53:01.607624',NULL,2,0,'control','cloud0','0e:00:00:00:00:02','169.254.0.2','255.255.0.0',NULL);
INSERT INTO "nics" VALUES(5,'d479ccdf-3ec0-479a-aa01-3d5f6d51f8d6','2026-11-29 21:53:01.608019',NULL,2,1,'management','cloudbr1','0e:00:00:00:01:02','10.11.0.102','255.255.255.0','10.11.0.1');
INSERT INTO "nics" VALUES(6,'146979e6-9156-4c2b-b8c5-564ce1562236','2026-11-29 21:53:01.608303',NULL,2,2,'public','cloudbr0','0e:00:00:00:02:02','203.0.113.102','255.255.255.0','203.0.113.1');
INSERT INTO "nics" VALUES(7,'bca75966-c1cb-4d7f-ba35-314490dd0833','2026-11-29 21:53:02.253926',NULL,3,0,'guest','cloudbr3','02:c8:97:c1:61:e6',NULL,NULL,NULL);
INSERT INTO "nics" VALUES(8,'cc981423-255d-4e5d-91da-853656cbefd7','2026-11-29 21:53:02.538421',NULL,4,0,'guest','cloudbr3','02:04:14:dc:b0:e4',NULL,NULL,NULL);
INSERT INTO "nics" VALUES(9,'6091add7-606d-4f68-8a90-2a9db32bb832','2026-11-29 21:53:02.675952',NULL,5,0,'guest','cloudbr3','02:23:33:41:a0:b6',NULL,NULL,NULL);
INSERT INTO "nics" VALUES(10,'6c2d9186-c29a-44dd-aee3-7395ba77fbfc','2026-11-29 21:53:02.831436','2026-11-29 21:53:03.152582',6,0,'guest','cloudbr3','02:e5:ba:b4:cb:60',NULL,NULL,NULL);
CREATE TABLE sessions (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	uuid VARCHAR(36) NOT NULL, 
	created DATETIME NOT NULL, 
	removed DATETIME, 
	user_id INTEGER NOT NULL, 
	cookie_hash VARCHAR(64) NOT NULL, 
	session_key_hash VARCHAR(64) NOT NULL, 
	client_address VARCHAR(64), 
	last_used DATETIME NOT NULL, 
	expires DATETIME NOT NULL, 
	CONSTRAINT fk_sessions_user_id FOREIGN KEY(user_id) REFERENCES users (id), 
	CONSTRAINT uq_sessions_cookie_hash UNIQUE (cookie_hash), 
	CONSTRAINT uq_sessions_uuid UNIQUE (uuid)
);
INSERT INTO "sessions" VALUES(1,'e5702a42-b2ab-4b4b-8340-dc86c8a6d74c','2026-11-29 21:53:03.254657',NULL,3,'cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc','dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd','192.0.2.9','2026-11-29 21:53:03.254660','2036-11-26 21:53:03.253595');
CREATE TABLE template_spool_refs (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	uuid VARCHAR(36) NOT NULL, 
	created DATETIME NOT NULL, 
	removed DATETIME, 
	template_id INTEGER NOT NULL, 
	host_id INTEGER NOT NULL, 
	state VARCHAR(40) NOT NULL, 
	path VARCHAR(4096), 
	size_bytes BIGINT, 
	error_text TEXT, 
	updated DATETIME NOT NULL, 
	CONSTRAINT fk_template_spool_refs_host_id FOREIGN KEY(host_id) REFERENCES hosts (id), 
	CONSTRAINT fk_template_spool_refs_template_id FOREIGN KEY(template_id) REFERENCES templates (id), 
	CONSTRAINT uq_template_spool_refs_uuid UNIQUE (uuid)
);
INSERT INTO "template_spool_refs" VALUES(1,'faf36162-b712-42b4-9b46-b5abbd4d1a2e','2026-11-29 21:53:02.379464',NULL,1,1,'Ready','DIRECTORY/09e30a95-1fa4-4a7c-a41a-6faa259560fb.qcow2',NULL,NULL,'2026-11-29 21:53:02.421250');
CREATE TABLE template_store_refs (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	uuid VARCHAR(36) NOT NULL, 
	created DATETIME NOT NULL, 
	removed DATETIME, 
	template_id INTEGER NOT NULL, 
	store_id INTEGER NOT NULL, 
	job_id VARCHAR(36) NOT NULL, 
	agent_name VARCHAR(64), 
	state VARCHAR(40) NOT NULL, 
	percent INTEGER NOT NULL, 
	received_bytes BIGINT NOT NULL, 
	total_bytes BIGINT, 
	error_code VARCHAR(64), 
	error_text TEXT, 
	error_hint TEXT, 
	install_path VARCHAR(1024), 
	physical_size_bytes BIGINT, 
	virtual_size_bytes BIGINT, 
	checksum VARCHAR(255), 
	updated DATETIME NOT NULL, request_id VARCHAR(128), 
	CONSTRAINT fk_template_store_refs_store_id FOREIGN KEY(store_id) REFERENCES image_stores (id), 
	CONSTRAINT fk_template_store_refs_template_id FOREIGN KEY(template_id) REFERENCES templates (id), 
	CONSTRAINT uq_template_store_refs_job_id UNIQUE (job_id), 
	CONSTRAINT uq_template_store_refs_uuid UNIQUE (uuid)
);
INSERT INTO "template_store_refs" VALUES(1,'64e020cb-00bd-457c-bbdb-297b46505ac9','2026-11-29 21:53:01.960097',NULL,1,1,'f11c6a9b-2a2f-49b2-a618-8ddd0bac161f',NULL,'DOWNLOADED',100,0,NULL,NULL,NULL,NULL,'template/tmpl/2/1/09e30a95-1fa4-4a7c-a41a-6faa259560fb.qcow2',NULL,1048576,NULL,'2026-11-29 21:53:02.010742',NULL);
INSERT INTO "template_store_refs" VALUES(2,'471554e8-e21a-4591-b7a3-60f40ca8f4a8','2026-11-29 21:53:02.033494',NULL,2,1,'5cc94c67-0298-4ac1-81fd-ed939cadb499',NULL,'NOT_DOWNLOADED',0,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'2026-11-29 21:53:02.034472',NULL);
INSERT INTO "template_store_refs" VALUES(3,'00b50666-6e12-493e-b9f9-034e5b5b480e','2026-11-29 21:53:02.035795',NULL,3,1,'9555e92b-8368-45bc-a14e-5880c7453751','s-1-VM','DOWNLOAD_IN_PROGRESS',40,4194304,10485760,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'2026-11-29 21:53:02.036545',NULL);
INSERT INTO "template_store_refs" VALUES(4,'d8e8985f-d729-408b-b2d3-2ceee9b510cf','2026-11-29 21:53:02.072645',NULL,4,1,'ac725d5e-ef4d-423a-bdf0-0890c2f92b52',NULL,'DOWNLOAD_ERROR',0,0,NULL,'not_found','source answered 404','correct the URL',NULL,NULL,NULL,NULL,'2026-11-29 21:53:02.098607',NULL);
INSERT INTO "template_store_refs" VALUES(5,'a0329cd8-36cb-4172-8780-9f5da5132141','2026-11-29 21:53:02.100259',NULL,5,1,'9ee60631-b08f-4ab2-8857-eacb8f31770d',NULL,'DOWNLOADED',100,0,NULL,NULL,NULL,NULL,'template/tmpl/2/5/6a8479d6-1844-471a-b727-a9182dee73ca.iso',NULL,1048576,NULL,'2026-11-29 21:53:02.100539',NULL);
INSERT INTO "template_store_refs" VALUES(6,'f2ffefe1-1ab9-4bd8-aee0-339512be638b','2026-11-29 21:53:02.130146','2026-11-29 21:53:02.148357',6,1,'62250cd0-db2b-44bd-96cd-e9dddf7122cd',NULL,'DOWNLOADED',100,0,NULL,NULL,NULL,NULL,'template/tmpl/2/6/0118c09f-f953-444c-a2ed-ac47c730a5e2.qcow2',NULL,1048576,NULL,'2026-11-29 21:53:02.148894',NULL);
CREATE TABLE templates (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	uuid VARCHAR(36) NOT NULL, 
	created DATETIME NOT NULL, 
	removed DATETIME, 
	account_id INTEGER NOT NULL, 
	domain_id INTEGER NOT NULL, 
	zone_id INTEGER, 
	arch VARCHAR(16), 
	unique_name VARCHAR(255) NOT NULL, 
	name VARCHAR(255) NOT NULL, 
	display_text VARCHAR(4096) NOT NULL, 
	format VARCHAR(40) NOT NULL, 
	url VARCHAR(2048), 
	checksum VARCHAR(255), 
	type VARCHAR(20) NOT NULL, 
	hypervisor VARCHAR(20) NOT NULL, 
	os_type VARCHAR(255), 
	bootable BOOLEAN NOT NULL, 
	featured BOOLEAN NOT NULL, 
	public BOOLEAN NOT NULL, 
	extractable BOOLEAN NOT NULL, 
	hvm BOOLEAN NOT NULL, 
	password_enabled BOOLEAN NOT NULL, 
	details JSON NOT NULL, 
	CONSTRAINT fk_templates_account_id FOREIGN KEY(account_id) REFERENCES accounts (id), 
	CONSTRAINT fk_templates_domain_id FOREIGN KEY(domain_id) REFERENCES domains (id), 
	CONSTRAINT fk_templates_zone_id FOREIGN KEY(zone_id) REFERENCES zones (id), 
	CONSTRAINT uq_templates_unique_name UNIQUE (unique_name), 
	CONSTRAINT uq_templates_uuid UNIQUE (uuid)
);
INSERT INTO "templates" VALUES(1,'09e30a95-1fa4-4a7c-a41a-6faa259560fb','2026-11-29 21:53:01.915610',NULL,2,1,1,'amd64','2-1-09e30a95-1fa4-4a7c-a41a-6faa259560fb','tiny','','QCOW2','https://images.example.test/tiny.qcow2','{SHA-256}aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa','USER','KVM',NULL,1,1,1,0,1,0,'{}');
INSERT INTO "templates" VALUES(2,'6f9e9842-2e95-49a4-8ee4-a5db59794b04','2026-11-29 21:53:02.012437',NULL,3,1,1,'amd64','3-2-6f9e9842-2e95-49a4-8ee4-a5db59794b04','not_downloaded','','QCOW2','https://images.example.test/tiny.qcow2',NULL,'USER','KVM',NULL,1,0,0,0,1,0,'{}');
INSERT INTO "templates" VALUES(3,'7a5bae9c-5a3d-4208-9ba2-d2a6f9143d08','2026-11-29 21:53:02.035171',NULL,3,1,1,'amd64','3-3-7a5bae9c-5a3d-4208-9ba2-d2a6f9143d08','download_in_progress','','QCOW2','https://images.example.test/tiny.qcow2',NULL,'USER','KVM',NULL,1,0,0,0,1,0,'{}');
INSERT INTO "templates" VALUES(4,'05c8395b-d042-436e-9ae4-fcdd1327f193','2026-11-29 21:53:02.036937',NULL,3,1,1,'amd64','3-4-05c8395b-d042-436e-9ae4-fcdd1327f193','download_error','','QCOW2','https://images.example.test/tiny.qcow2',NULL,'USER','KVM',NULL,1,0,0,0,1,0,'{}');
INSERT INTO "templates" VALUES(5,'6a8479d6-1844-471a-b727-a9182dee73ca','2026-11-29 21:53:02.099584',NULL,2,1,1,'amd64','2-5-6a8479d6-1844-471a-b727-a9182dee73ca','installer','','ISO','https://images.example.test/tiny.qcow2',NULL,'USER','KVM',NULL,1,0,0,0,1,0,'{}');
INSERT INTO "templates" VALUES(6,'0118c09f-f953-444c-a2ed-ac47c730a5e2','2026-11-29 21:53:02.100934','2026-11-29 21:53:02.131082',2,1,1,'amd64','2-6-0118c09f-f953-444c-a2ed-ac47c730a5e2','gone','','QCOW2','https://images.example.test/tiny.qcow2',NULL,'USER','KVM',NULL,1,0,0,0,1,0,'{}');
CREATE TABLE users (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	uuid VARCHAR(36) NOT NULL, 
	created DATETIME NOT NULL, 
	removed DATETIME, 
	username VARCHAR(255) NOT NULL, 
	password_hash VARCHAR(255), 
	account_id INTEGER NOT NULL, 
	domain_id INTEGER NOT NULL, 
	first_name VARCHAR(255) NOT NULL, 
	last_name VARCHAR(255) NOT NULL, 
	state VARCHAR(20) NOT NULL, 
	CONSTRAINT fk_users_account_id FOREIGN KEY(account_id) REFERENCES accounts (id), 
	CONSTRAINT fk_users_domain_id FOREIGN KEY(domain_id) REFERENCES domains (id), 
	CONSTRAINT uq_users_uuid UNIQUE (uuid)
);
INSERT INTO "users" VALUES(1,'eb2387d7-c0d0-46a4-9ae6-17c7d9f362de','2026-11-29 21:53:01.428613',NULL,'system',NULL,1,1,'','','enabled');
INSERT INTO "users" VALUES(2,'8a99cfd8-21a7-4cdd-81bb-80ccf2567a45','2026-11-29 21:53:01.470060',NULL,'admin','$argon2id$v=19$m=8,t=1,p=1$gKRDPov2UViCQUTZ9WJyJw$IlTZseihZuY9TsUl/unmajrfaDKMd3MgeXhg0m2ocH4',2,1,'','','enabled');
INSERT INTO "users" VALUES(3,'2cea3056-be82-4a77-9949-0d35ee3830d2','2026-11-29 21:53:01.472508',NULL,'ulla','$argon2id$v=19$m=8,t=1,p=1$iWo90Xldr/29rB6+N9NwBQ$iIq0HnfSMWIVSY3NR8e8Y5x+de1r2LrVjHf1LY30Q0k',3,1,'','','enabled');
CREATE TABLE vm_instances (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	uuid VARCHAR(36) NOT NULL, 
	created DATETIME NOT NULL, 
	removed DATETIME, 
	account_id INTEGER NOT NULL, 
	domain_id INTEGER NOT NULL, 
	zone_id INTEGER, 
	arch VARCHAR(16), 
	instance_name VARCHAR(64), 
	name VARCHAR(255) NOT NULL, 
	type VARCHAR(40) NOT NULL, 
	state VARCHAR(40) NOT NULL, 
	wanted BOOLEAN NOT NULL, 
	reason TEXT, 
	hint TEXT, 
	host_id INTEGER, 
	template_id INTEGER, 
	iso_id INTEGER, 
	hypervisor VARCHAR(20) NOT NULL, 
	vcpus INTEGER NOT NULL, 
	memory_mib INTEGER NOT NULL, 
	vnc_address VARCHAR(64), 
	vnc_port INTEGER, 
	sealed_vnc_password BLOB, 
	agent_state VARCHAR(40), 
	agent_reason TEXT, 
	agent_hint TEXT, 
	agent_version VARCHAR(64), 
	image_version VARCHAR(64), 
	image_sha256 VARCHAR(64), 
	boot_id VARCHAR(64), 
	host_keys JSON NOT NULL, 
	console_sessions INTEGER NOT NULL, 
	started DATETIME, 
	disconnected DATETIME, 
	updated DATETIME NOT NULL, display_name VARCHAR(255), 
	CONSTRAINT fk_vm_instances_account_id FOREIGN KEY(account_id) REFERENCES accounts (id), 
	CONSTRAINT fk_vm_instances_domain_id FOREIGN KEY(domain_id) REFERENCES domains (id), 
	CONSTRAINT fk_vm_instances_host_id FOREIGN KEY(host_id) REFERENCES hosts (id), 
	CONSTRAINT fk_vm_instances_iso_id FOREIGN KEY(iso_id) REFERENCES templates (id), 
	CONSTRAINT fk_vm_instances_template_id FOREIGN KEY(template_id) REFERENCES templates (id), 
	CONSTRAINT fk_vm_instances_zone_id FOREIGN KEY(zone_id) REFERENCES zones (id), 
	CONSTRAINT uq_vm_instances_instance_name UNIQUE (instance_name), 
	CONSTRAINT uq_vm_instances_uuid UNIQUE (uuid)
);
INSERT INTO "vm_instances" VALUES(1,'5a8fcf40-8123-42d6-9706-5eebb082c092','2026-11-29 21:53:01.541147',NULL,1,1,1,'amd64','s-1-VM','s-1-VM','SecondaryStorageVm','Running',1,NULL,NULL,1,NULL,NULL,'KVM',1,512,NULL,NULL,NULL,'Up',NULL,NULL,NULL,'0.1.0',NULL,NULL,'[]',0,NULL,NULL,'2026-11-29 21:53:01.565345',NULL);
INSERT INTO "vm_instances" VALUES(2,'06726e68-f2e3-40af-a81f-de9ef01c0d2e','2026-11-29 21:53:01.568981',NULL,1,1,1,'amd64','v-2-VM','v-2-VM','ConsoleProxy','Running',1,NULL,NULL,1,NULL,NULL,'KVM',1,512,NULL,NULL,NULL,'Up',NULL,NULL,NULL,'0.1.0',NULL,NULL,'[]',0,NULL,NULL,'2026-11-29 21:53:01.569127',NULL);
INSERT INTO "vm_instances" VALUES(3,'2c50cf4d-197c-49bb-bc68-b001c755e985','2026-11-29 21:53:02.207966',NULL,3,1,1,'amd64','i-3-3-VM','web','User','Running',1,NULL,NULL,1,1,NULL,'KVM',1,128,'10.11.0.1',5901,X'D2ED15876F0B5580BA63D49F14563BDD13CA21CA6AC0A231715CD7302646995A1CB74570',NULL,NULL,NULL,NULL,NULL,NULL,NULL,'[]',0,'2026-11-29 21:53:02.456828',NULL,'2026-11-29 21:53:02.457580','web of the release');
INSERT INTO "vm_instances" VALUES(4,'c8342bcf-553e-405c-ae2c-9974ca016aeb','2026-11-29 21:53:02.537822',NULL,3,1,1,'amd64','i-3-4-VM','database','User','Stopped',0,NULL,NULL,1,1,NULL,'KVM',1,128,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'[]',0,'2026-11-29 21:53:02.628904',NULL,'2026-11-29 21:53:03.058810','database of the release');
INSERT INTO "vm_instances" VALUES(5,'2f7c2a6a-8403-4855-aade-27d929f902e5','2026-11-29 21:53:02.675405',NULL,2,1,1,'amd64','i-2-5-VM','build','User','Running',1,NULL,NULL,1,1,NULL,'KVM',1,128,'10.11.0.1',5903,X'BF458CF97DB7FD000D82FE27F422383EA4CCAAEF0537A14A336D24F97A0FA3F3AD812642',NULL,NULL,NULL,NULL,NULL,NULL,NULL,'[]',0,'2026-11-29 21:53:02.777660',NULL,'2026-11-29 21:53:02.778050','build of the release');
INSERT INTO "vm_instances" VALUES(6,'dc503858-e0db-4781-b863-2d7614381ba9','2026-11-29 21:53:02.830820','2026-11-29 21:53:03.151941',2,1,1,'amd64','i-2-6-VM','old','User','Expunging',0,NULL,NULL,1,1,NULL,'KVM',1,128,'10.11.0.1',5904,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,'[]',0,'2026-11-29 21:53:02.941747',NULL,'2026-11-29 21:53:03.153147','old of the release');
CREATE TABLE volumes (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	uuid VARCHAR(36) NOT NULL, 
	created DATETIME NOT NULL, 
	removed DATETIME, 
	account_id INTEGER NOT NULL, 
	domain_id INTEGER NOT NULL, 
	zone_id INTEGER, 
	arch VARCHAR(16), 
	name VARCHAR(255) NOT NULL, 
	type VARCHAR(20) NOT NULL, 
	state VARCHAR(40) NOT NULL, 
	vm_id INTEGER, 
	template_id INTEGER, 
	host_id INTEGER, 
	path VARCHAR(4096), 
	size_bytes BIGINT, 
	CONSTRAINT fk_volumes_account_id FOREIGN KEY(account_id) REFERENCES accounts (id), 
	CONSTRAINT fk_volumes_domain_id FOREIGN KEY(domain_id) REFERENCES domains (id), 
	CONSTRAINT fk_volumes_host_id FOREIGN KEY(host_id) REFERENCES hosts (id), 
	CONSTRAINT fk_volumes_template_id FOREIGN KEY(template_id) REFERENCES templates (id), 
	CONSTRAINT fk_volumes_vm_id FOREIGN KEY(vm_id) REFERENCES vm_instances (id), 
	CONSTRAINT fk_volumes_zone_id FOREIGN KEY(zone_id) REFERENCES zones (id), 
	CONSTRAINT uq_volumes_uuid UNIQUE (uuid)
);
INSERT INTO "volumes" VALUES(1,'4c8c452a-cea6-4cb9-af51-80412636ba7e','2026-11-29 21:53:02.255456',NULL,3,1,1,NULL,'ROOT-3','ROOT','Ready',3,1,1,'DIRECTORY/4c8c452a-cea6-4cb9-af51-80412636ba7e.qcow2',NULL);
INSERT INTO "volumes" VALUES(2,'6582cf4a-7a39-445f-abe8-b686c3feb024','2026-11-29 21:53:02.538720',NULL,3,1,1,NULL,'ROOT-4','ROOT','Ready',4,1,1,'DIRECTORY/6582cf4a-7a39-445f-abe8-b686c3feb024.qcow2',NULL);
INSERT INTO "volumes" VALUES(3,'2b831928-d02e-42a7-badf-db457d837fcc','2026-11-29 21:53:02.676244',NULL,2,1,1,NULL,'ROOT-5','ROOT','Ready',5,1,1,'DIRECTORY/2b831928-d02e-42a7-badf-db457d837fcc.qcow2',NULL);
INSERT INTO "volumes" VALUES(4,'e8fa0ad4-511f-41d5-82c6-a39139d1a7e4','2026-11-29 21:53:02.831760','2026-11-29 21:53:03.151277',2,1,1,NULL,'ROOT-6','ROOT','Destroyed',6,1,1,'DIRECTORY/e8fa0ad4-511f-41d5-82c6-a39139d1a7e4.qcow2',NULL);
CREATE TABLE zones (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	uuid VARCHAR(36) NOT NULL, 
	created DATETIME NOT NULL, 
	removed DATETIME, 
	account_id INTEGER NOT NULL, 
	domain_id INTEGER NOT NULL, 
	arch VARCHAR(16), 
	name VARCHAR(255) NOT NULL, 
	description VARCHAR(255) NOT NULL, 
	network_type VARCHAR(20) NOT NULL, 
	allocation_state VARCHAR(20) NOT NULL, 
	dns JSON NOT NULL, 
	internal_dns JSON NOT NULL, 
	CONSTRAINT fk_zones_account_id FOREIGN KEY(account_id) REFERENCES accounts (id), 
	CONSTRAINT fk_zones_domain_id FOREIGN KEY(domain_id) REFERENCES domains (id), 
	CONSTRAINT uq_zones_name UNIQUE (name), 
	CONSTRAINT uq_zones_uuid UNIQUE (uuid)
);
INSERT INTO "zones" VALUES(1,'d45fac21-6c91-4541-a37a-7c8e75e8119c','2026-11-29 21:53:01.506507',NULL,1,1,'amd64','zone1','','Advanced','Enabled','["203.0.113.10"]','["10.11.0.2"]');
CREATE INDEX ix_api_keys_user_id ON api_keys (user_id);
CREATE INDEX ix_events_resource_uuid ON events (resource_uuid);
CREATE INDEX ix_sessions_user_id ON sessions (user_id);
CREATE INDEX ix_async_jobs_status ON async_jobs (status);
CREATE INDEX ix_template_spool_refs_template_id ON template_spool_refs (template_id);
CREATE INDEX ix_template_store_refs_template_id ON template_store_refs (template_id);
CREATE INDEX ix_vm_instances_type ON vm_instances (type);
CREATE INDEX ix_console_sessions_vm_id ON console_sessions (vm_id);
CREATE INDEX ix_ip_addresses_vm_id ON ip_addresses (vm_id);
CREATE INDEX ix_nics_vm_id ON nics (vm_id);
CREATE INDEX ix_volumes_vm_id ON volumes (vm_id);
CREATE INDEX ix_certificates_name ON certificates (name);
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('domains',1);
INSERT INTO "sqlite_sequence" VALUES('accounts',3);
INSERT INTO "sqlite_sequence" VALUES('users',3);
INSERT INTO "sqlite_sequence" VALUES('api_keys',1);
INSERT INTO "sqlite_sequence" VALUES('zones',1);
INSERT INTO "sqlite_sequence" VALUES('hosts',1);
INSERT INTO "sqlite_sequence" VALUES('image_stores',1);
INSERT INTO "sqlite_sequence" VALUES('vm_instances',6);
INSERT INTO "sqlite_sequence" VALUES('nics',10);
INSERT INTO "sqlite_sequence" VALUES('templates',6);
INSERT INTO "sqlite_sequence" VALUES('template_store_refs',6);
INSERT INTO "sqlite_sequence" VALUES('volumes',4);
INSERT INTO "sqlite_sequence" VALUES('events',11);
INSERT INTO "sqlite_sequence" VALUES('async_jobs',7);
INSERT INTO "sqlite_sequence" VALUES('template_spool_refs',1);
INSERT INTO "sqlite_sequence" VALUES('console_sessions',1);
INSERT INTO "sqlite_sequence" VALUES('sessions',1);
INSERT INTO "sqlite_sequence" VALUES('ip_addresses',6);
INSERT INTO "sqlite_sequence" VALUES('certificates',2);
COMMIT;
